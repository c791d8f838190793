"""Work that is done again and again, on a thread of its own."""

import threading
from collections.abc import Callable


class Periodic:
    """Calls `work` at its start, and then `interval_seconds` after each end, until it is closed.

    `work` answers for its own failures: an exception that it lets through ends the thread.
    """

    def __init__(self, name: str, work: Callable[[], None], interval_seconds: float) -> None:
        self._work = work
        self._interval_seconds = interval_seconds
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Start the thread; returns at once."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread; returns when the work in hand has ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while True:
            self._work()
            if self._stop.wait(self._interval_seconds):
                return
