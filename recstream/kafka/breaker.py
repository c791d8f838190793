"""Stops a consumer that meets nothing but bad records, before it drains a topic into its dead letters (promise 4).

A topic full of records that nobody understands is rarely their fault: a producer of another version, a database that
was replaced. Setting them aside one by one would end every request as failed. So after a run of them the consumer
leaves them where they are, and looks again after a while.
"""

import time
from collections.abc import Callable

import structlog

from recstream.kafka.settings import ConsumerSettings
from recstream.ops import metrics

log = structlog.get_logger()

_PROBE_RECORDS = 10


class Tripped(RuntimeError):
    """Too many bad records in a row. Nothing of the batch was set aside; it stays uncommitted."""


class Breaker:
    """Closed: records flow. Open: the consumer has left. Half open: a few records are let through as a probe.

    One good record closes it. A probe of nothing but bad ones is set aside and opens it again, so that good records
    behind a finite run of bad ones are reached in the end. Used by one thread; `closed` may be read by others.
    """

    def __init__(self, settings: ConsumerSettings, clock: Callable[[], float] = time.monotonic) -> None:
        self._most = settings.breaker_records
        self._seconds = settings.breaker_seconds
        self._clock = clock
        self._bad_in_a_row = 0
        self._open_until: float | None = None
        self._probing = False
        metrics.BREAKER_OPEN.set(0)

    @property
    def closed(self) -> bool:
        """Whether records may be taken, be it as a probe."""
        return self._open_until is None

    @property
    def seconds_left(self) -> float:
        """How long it stays open."""
        return max(0.0, self._open_until - self._clock()) if self._open_until is not None else 0.0

    def limit(self, batch: int) -> int:
        """Return how many records the next batch may have."""
        return min(batch, _PROBE_RECORDS) if self._probing else batch

    def judge(self, *, good: int, bad: int) -> None:
        """Take note of a batch, before its bad records are set aside.

        Raises:
            Tripped: they must not be.
        """
        if good:
            if self._probing:
                log.warning("breaker.closed")
            self._bad_in_a_row, self._probing = 0, False
            return
        self._bad_in_a_row += bad
        if self._probing:
            self._open()
        elif self._bad_in_a_row >= self._most:
            self._open()
            raise Tripped(f"{self._bad_in_a_row} bad records in a row")

    def probe(self) -> None:
        """Let a few records through."""
        self._open_until, self._probing = None, True
        metrics.BREAKER_OPEN.set(0)

    def _open(self) -> None:
        self._open_until = self._clock() + self._seconds
        metrics.BREAKER_OPEN.set(1)
        log.error("breaker.open", bad_records_in_a_row=self._bad_in_a_row, seconds=self._seconds)
