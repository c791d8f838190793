"""Results as they pass on `inference.results`: one tail and one bounded buffer for all browsers of this process."""

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from itertools import islice
from uuid import UUID

import structlog
from confluent_kafka import Message

from recstream.kafka.records import append_time_ms
from recstream.kafka.settings import KafkaSettings
from recstream.kafka.tail import Start, Tail
from recstream.messages.codec import BadMessage, decode
from recstream.messages.inference import InferenceResult
from recstream.messages.topics import INFERENCE_RESULTS
from recstream.ops import metrics
from recstream.ops.clock import from_ms

log = structlog.get_logger()

SECONDS_KEPT = 300
"""How far back the counts by second reach."""
_LATENCIES_A_SECOND = 200
"""Samples kept of each second, so that a burst does not fill the memory."""


@dataclass(frozen=True, slots=True)
class SeenResult:
    """A result and when the broker appended it."""

    result: InferenceResult
    appended_at: datetime


@dataclass(slots=True)
class Second:
    """What passed in one second; `second` counts from the epoch, `latencies` are a sample, in milliseconds."""

    second: int
    count: int = 0
    statuses: Counter[str] = field(default_factory=Counter)
    sources: Counter[str] = field(default_factory=Counter)
    versions: Counter[str] = field(default_factory=Counter)
    latencies: list[float] = field(default_factory=list)

    def add(self, result: InferenceResult) -> None:
        """Count one result."""
        self.count += 1
        self.statuses[result.status] += 1
        if result.source is not None:
            self.sources[result.source] += 1
        if result.model_version is not None:
            self.versions[result.model_version] += 1
        if result.timings_ms is not None and len(self.latencies) < _LATENCIES_A_SECOND:
            self.latencies.append(result.timings_ms.total)


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The stream at one moment: the newest results first, and the seconds that had any, oldest first."""

    taken_at: float
    results: list[SeenResult]
    seconds: list[Second]


class ResultFeed:
    """Follows the topic on a thread. The first record of a request counts, here as everywhere."""

    def __init__(self, kafka: KafkaSettings, client_id: str, *, kept: int) -> None:
        self._tail = Tail(kafka, client_id, INFERENCE_RESULTS.name, Start.END, self._on_records)
        self._kept = kept
        self._results: OrderedDict[UUID, SeenResult] = OrderedDict()
        self._seconds: dict[int, Second] = {}
        self._changed = threading.Condition()

    @property
    def connected(self) -> bool:
        """Whether results arrive now: the tail is placed and the broker answers."""
        return self._tail.connected

    def start(self) -> None:
        """Start following what is appended from now on; returns at once."""
        self._tail.start()

    def close(self) -> None:
        """Stop following. Blocks."""
        self._tail.close()

    def get(self, request_id: UUID) -> SeenResult | None:
        """Return the result of a request, where it passed lately."""
        with self._changed:
            return self._results.get(request_id)

    def wait(self, request_id: UUID, seconds: float) -> SeenResult | None:
        """Return the result of a request as soon as it passes; None on time-out."""
        with self._changed:
            self._changed.wait_for(lambda: request_id in self._results, seconds)
            return self._results.get(request_id)

    def snapshot(self, rows: int, seconds: int) -> Snapshot:
        """Return the newest `rows` results and the counts of the last `seconds` seconds."""
        now = time.time()
        with self._changed:
            newest = list(islice(reversed(self._results.values()), rows))
            counted = [
                Second(s.second, s.count, s.statuses.copy(), s.sources.copy(), s.versions.copy(), list(s.latencies))
                for s in self._seconds.values()
                if s.second > now - seconds
            ]
        return Snapshot(now, newest, sorted(counted, key=lambda s: s.second))

    def _on_records(self, records: Sequence[Message]) -> None:
        seen = [found for record in records if (found := _seen(record)) is not None]
        with self._changed:
            for found in seen:
                self._remember(found)
            self._changed.notify_all()

    def _remember(self, seen: SeenResult) -> None:
        request_id = seen.result.request_id
        if request_id in self._results:
            return
        self._results[request_id] = seen
        while len(self._results) > self._kept:
            self._results.popitem(last=False)
        self._second_of(int(seen.appended_at.timestamp())).add(seen.result)

    def _second_of(self, second: int) -> Second:
        # Partitions arrive side by side, so a record may belong to one of the seconds before the newest.
        if second not in self._seconds:
            self._seconds[second] = Second(second)
            while len(self._seconds) > SECONDS_KEPT:
                del self._seconds[min(self._seconds)]
        return self._seconds.get(second) or Second(second)


def _seen(record: Message) -> SeenResult | None:
    try:
        return SeenResult(decode(record.value(), InferenceResult), from_ms(append_time_ms(record)))
    except BadMessage as error:
        metrics.BAD_RECORDS.labels(INFERENCE_RESULTS.name).inc()  # db_writer sets it aside
        log.debug("result.ignored", reason=error.reason)
        return None
