"""The steps of a start or a stop: recorded as they happen, shown to whoever watches, in this process or another."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from enum import StrEnum

import msgspec
from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from launcher.errors import Interrupted


class StepStatus(StrEnum):
    """How far a step is."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Step(msgspec.Struct):
    """One step, with a detail that says how far it is. Times are seconds since the epoch."""

    title: str
    status: StepStatus
    started_at: float
    seconds: float | None = None
    detail: str = ""


class Steps:
    """Collects steps from any thread; calls `changed` after each change."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._steps: list[Step] = []
        self._lock = threading.Lock()

    def all(self) -> list[Step]:
        """Return copies of all steps, in the order of their starts."""
        with self._lock:
            return [msgspec.structs.replace(step) for step in self._steps]

    @contextmanager
    def step(self, title: str) -> Iterator[Callable[[str], None]]:
        """Record a step from entry to exit; yields a function that sets its detail."""
        step = Step(title, StepStatus.RUNNING, time.time())
        with self._lock:
            self._steps.append(step)
        self._changed()

        def set_detail(detail: str) -> None:
            if detail != step.detail:
                with self._lock:
                    step.detail = detail
                self._changed()

        status = StepStatus.FAILED
        try:
            yield set_detail
            status = StepStatus.DONE
        except Interrupted:
            status = StepStatus.INTERRUPTED
            raise
        finally:
            with self._lock:
                step.status = status
                step.seconds = time.time() - step.started_at
            self._changed()


class StepDisplay:
    """Shows steps: live on a terminal, one line per finished step elsewhere. `update` takes all steps each time."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._steps: Sequence[Step] = ()
        self._printed: set[tuple[str, float]] = set()
        self._spinner = Spinner("line", style="cyan")
        self._live = Live(
            console=console, get_renderable=self._table, refresh_per_second=8, transient=False, redirect_stdout=False
        )

    def update(self, steps: Sequence[Step]) -> None:
        """Take the present steps."""
        self._steps = steps
        if self._console.is_terminal:
            return
        for step in steps:
            key = (step.title, step.started_at)
            if step.status is not StepStatus.RUNNING and key not in self._printed:
                self._printed.add(key)
                self._console.print(self._line(step), soft_wrap=True, highlight=False)

    def __enter__(self) -> "StepDisplay":
        """Begin to show."""
        if self._console.is_terminal:
            self._live.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Show the last state and leave it standing."""
        if self._console.is_terminal:
            self._live.stop()

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 1))
        table.add_column(width=4)
        table.add_column(no_wrap=True)
        table.add_column(justify="right", style="cyan", width=7)
        table.add_column(style="dim", no_wrap=True, overflow="ellipsis")
        for step in list(self._steps):
            mark = self._spinner if step.status is StepStatus.RUNNING else _MARKS[step.status]
            table.add_row(mark, step.title, f"{_seconds(step):.1f} s", step.detail)
        return table

    @staticmethod
    def _line(step: Step) -> Text:
        line = Text.assemble(_MARKS[step.status], f" {step.title} ({_seconds(step):.1f} s)")
        return line.append(f"  {step.detail}", style="dim") if step.detail else line


_MARKS = {
    StepStatus.DONE: Text("ok  ", style="green"),
    StepStatus.FAILED: Text("fail", style="bold red"),
    StepStatus.INTERRUPTED: Text("cut ", style="yellow"),
}


def _seconds(step: Step) -> float:
    return step.seconds if step.seconds is not None else time.time() - step.started_at
