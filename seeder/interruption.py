"""SIGINT and SIGTERM as an exception, so that the transaction in hand is rolled back at once."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal asked the seeder to stop. `exit_code` is 128 and the signal's number, as shells count.

    A KeyboardInterrupt, because for those psycopg cancels the statement that is running on the server.
    """

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number
        self.consequence = ""
        """A sentence on what became of the work, where that is known."""


class Interruption:
    """Raises Interrupted on SIGINT or SIGTERM, except within `deferred`."""

    def __init__(self) -> None:
        self._deferring = False
        self._waiting: int | None = None

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Raise on signals inside; the previous handlers come back on exit. Must be entered on the main thread."""
        previous = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
        for number in previous:
            signal.signal(number, self._handle)
        try:
            yield
        finally:
            for number, handler in previous.items():
                signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[None]:
        """Hold a signal back until the end: for a COMMIT, which must not be left with its outcome unknown."""
        self._deferring = True
        try:
            yield
        finally:
            self._deferring = False
        if self._waiting is not None:
            raise Interrupted(self._waiting)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        if self._deferring:
            self._waiting = number
        else:
            raise Interrupted(number)
