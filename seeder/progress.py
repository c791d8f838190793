"""Progress for people: a bar on a terminal, now and then a line elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

_SECONDS_BETWEEN_LINES = 5.0


def say(console: Console, sentence: str) -> None:
    """Print one line, however narrow the console."""
    console.print(sentence, highlight=False, markup=False, soft_wrap=True)


Report = Callable[[int, int], None]
"""Takes how far the work has got, and how many rows that were."""


@contextmanager
def progress(console: Console, label: str, size: int) -> Iterator[Report]:
    """Yield a function to call with the position, up to `size`, and the number of rows."""
    if not console.is_terminal:
        yield _lines(console, label, size)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("{task.fields[rows]:,} rows"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as bar:
        task = bar.add_task(label, total=size or None, rows=0)
        yield lambda position, rows: bar.update(task, completed=position, rows=rows)


def _lines(console: Console, label: str, size: int) -> Report:
    last = time.monotonic()

    def report(position: int, rows: int) -> None:
        nonlocal last
        now = time.monotonic()
        if now - last >= _SECONDS_BETWEEN_LINES:
            last = now
            say(console, f"{label}: {rows:,} rows ({100 * position // max(size, 1)}%)")

    return report
