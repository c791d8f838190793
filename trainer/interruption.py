"""Ctrl-C and SIGTERM as one exception, so that a training ends at once wherever it is."""

import signal
from types import FrameType


class Interrupted(KeyboardInterrupt):
    """A signal asked the trainer to stop. `exit_code` is 128 and the signal's number, as shells count.

    A KeyboardInterrupt, because for those psycopg cancels the statement that is running on the server.
    """

    def __init__(self, signal_number: int, sentence: str) -> None:
        super().__init__(signal_number)
        self.exit_code = 128 + signal_number
        self.sentence = sentence


def raise_on_signals(sentence: str) -> None:
    """Make SIGINT and SIGTERM raise Interrupted on the main thread, once; `sentence` says what stands then.

    An exception, not a flag: a training waits for long in PostgreSQL and in torch, and whatever it leaves behind is
    either whole or under a temporary name. Further signals change nothing, so that the way out is not cut short.
    """

    def interrupt(number: int, _frame: FrameType | None) -> None:
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_IGN)
        raise Interrupted(number, sentence)

    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, interrupt)
