"""SIGINT and SIGTERM as an exception, for a job that shall end at once wherever it is.

Services that finish what they have in hand use `recstream.ops.shutdown` instead.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal asked the job to stop. `exit_code` is 128 and the signal's number, as shells count.

    A KeyboardInterrupt, because for those psycopg cancels the statement that is running on the server.
    """

    def __init__(self, number: int, sentence: str) -> None:
        super().__init__(number)
        self.exit_code = 128 + number
        self.sentence = sentence


class Interruption:
    """Raises Interrupted on the first SIGINT or SIGTERM, except within `deferred`.

    `sentence` tells what stands if the job is interrupted now; the job keeps it true as it goes on.
    """

    def __init__(self, sentence: str) -> None:
        self.sentence = sentence
        self._deferring = False
        self._waiting: int | None = None

    @contextmanager
    def raised(self) -> Iterator[None]:
        """Raise on a signal inside; the previous handlers come back on exit. Must be entered on the main thread.

        Further signals change nothing, so that the way out is not cut short.
        """
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
            raise Interrupted(self._waiting, self.sentence)

    def _handle(self, number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGTERM, signal.SIGINT):
            signal.signal(each, signal.SIG_IGN)
        if self._deferring:
            self._waiting = number
        else:
            raise Interrupted(number, self.sentence)
