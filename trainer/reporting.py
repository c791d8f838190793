"""What a person sees of a training: a bar on a terminal, a line now and then elsewhere, and the closing table."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from pydantic import ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

if TYPE_CHECKING:  # these import torch, which takes seconds; a run that is refused must not
    from trainer.comparison import Comparison
    from trainer.evaluation import Evaluation
    from trainer.gate import Decision
    from trainer.progress import Epoch

_SECONDS_BETWEEN_LINES = 5.0
SHOWN_METRICS = ("ndcg@5", "ndcg@10", "ndcg@20", "recall@5", "recall@10", "recall@20", "mrr@10", "coverage@10")

COMPARED_METRICS = (
    *(f"{name}@{k}" for name in ("ndcg", "recall", "mrr", "precision") for k in (5, 10, 20)),
    *("coverage@10", "arp@10", "gini@10"),
)


def settings_sentence(error: ValidationError) -> str:
    """Return what is wrong with the settings, without their values."""
    problems = [f"{'.'.join(str(part) for part in each['loc'])}: {each['msg']}" for each in error.errors()]
    return f"The settings are unusable: {'; '.join(problems)}."


class Reporter:
    """Writes to one console; use `bar` around each step that may take long."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress: Progress | None = None
        self._task: TaskID | None = None
        self._last_line = 0.0

    def say(self, text: str) -> None:
        """Print one line, however narrow the console."""
        self._console.print(text, soft_wrap=True, markup=False, highlight=False)

    @contextmanager
    def bar(self, description: str) -> Iterator[None]:
        """Show a bar until the end of the block where the console is a terminal."""
        if not self._console.is_terminal:
            yield
            return
        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True) as self._progress:
            self._task = self._progress.add_task(description, total=None)
            try:
                yield
            finally:
                self._progress = self._task = None

    def advance(self, done: int, total: int) -> None:
        """Move the bar."""
        if self._progress is not None and self._task is not None:
            self._progress.update(self._task, completed=done, total=total)

    def rows_read(self, done: int, total: int) -> None:
        """Move the bar, or print a line if the last one is long ago."""
        self.advance(done, total)
        if self._progress is None and self._line_is_due():
            self.say(f"  read {done:,} of {total:,} interactions")

    def epoch(self, epoch: "Epoch", best: "Epoch") -> None:
        """Tell how an epoch went: in the bar, or on a line if the last one is long ago."""
        if self._progress is not None and self._task is not None:
            self._progress.update(
                self._task,
                description=f"epoch {epoch.number + 1}, loss {epoch.loss:.3f}, validation NDCG@10 {epoch.ndcg:.4f} "
                f"(best {best.ndcg:.4f} in epoch {best.number})",
            )
        elif self._line_is_due():
            self.say(
                f"  epoch {epoch.number}: loss {epoch.loss:.3f}, validation NDCG@10 {epoch.ndcg:.4f} "
                f"(best {best.ndcg:.4f} in epoch {best.number}), {epoch.seconds:.0f} s"
            )

    def table(self, model: "Evaluation", popularity: "Evaluation") -> None:
        """Print the model beside the popularity list, on the test item."""
        table = Table(title=f"Test on {model.users:,} users: each one's last item, ranked among all unseen ones")
        table.add_column("metric")
        for column in ("SASRec", "popularity", "ratio"):
            table.add_column(column, justify="right")
        for name in SHOWN_METRICS:
            ours, theirs = model.metrics[name], popularity.metrics[name]
            table.add_row(name, f"{ours:.4f}", f"{theirs:.4f}", f"{ours / theirs:.2f}" if theirs else "-")
        self._console.print(table)
        if model.repeats:
            self.say(
                f"{model.repeats:,} users are left out: their last item is one they had seen before, "
                "which recommendations leave out."
            )

    def decision(self, decision: "Decision") -> None:
        """Tell what the new model was compared with, on whom, and how it did."""
        asked = decision.hold_out
        if decision.against:
            more = asked.unknown + asked.repeats
            left_out = f", {more:,} more left out" if more else ""
            self.say(f"Compared on {asked.users:,} users who did something after {asked.after}{left_out}:")
        for each in decision.against:
            self.say(
                f"  with {each.opponent}: NDCG@10 {each.candidate_ndcg:.4f} against {each.opponent_ndcg:.4f}, "
                f"difference {each.difference:+.4f} (95% interval {each.low:+.4f} to {each.high:+.4f}): "
                f"{each.verdict.replace('_', ' ')}"
            )
        if decision.promoted:
            self.say(f"Going live: {decision.reason}.")

    def comparison(self, comparison: "Comparison") -> None:
        """Print the network beside its baselines; over several seeds the mean and the standard deviation."""
        test = comparison.runs[0].test
        seeds = f", {len(comparison.runs)} seeds" if len(comparison.runs) > 1 else ""
        table = Table(title=f"{comparison.split}: {test.users:,} users, exact ranks of all unseen items{seeds}")
        table.add_column("metric")
        for column in (*comparison.baselines, "SASRec"):
            table.add_column(column, justify="right")
        for name in COMPARED_METRICS:
            digits = 1 if name.startswith("arp") else 4
            spread = comparison.spread(name)
            ours = f"{comparison.mean(name):.{digits}f}" + ("" if spread is None else f" ± {spread:.{digits}f}")
            theirs = [f"{each.metrics[name]:.{digits}f}" for each in comparison.baselines.values()]
            table.add_row(name, *theirs, ours)
        self._console.print(table)
        if test.repeats:
            self.say(f"{test.repeats:,} users are left out: their last item is one they had seen before.")

    def _line_is_due(self) -> bool:
        now = time.monotonic()
        if now - self._last_line < _SECONDS_BETWEEN_LINES:
            return False
        self._last_line = now
        return True
