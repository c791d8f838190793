"""Results as they pass on the topic: waiters are woken, the latest are remembered.

The first record of a request in log order counts, here as in the table (DESIGN section 3), so what a waiter was told
and what the row will say cannot differ.
"""

import asyncio
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import structlog
from confluent_kafka import Message

from recstream.kafka.records import append_time_ms
from recstream.kafka.results import read_result
from recstream.kafka.settings import KafkaSettings
from recstream.kafka.tail import Start, Tail
from recstream.messages.codec import BadMessage
from recstream.messages.identifiers import request_id_key
from recstream.messages.inference import ResultError, Status
from recstream.messages.topics import INFERENCE_RESULTS
from recstream.ops import metrics
from recstream.ops.clock import from_ms

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class EndedResult:
    """How a request ended; `body` is the result's JSON as it was written."""

    status: Status
    error: ResultError | None
    model_version: str | None
    body: bytes
    completed_at: datetime


class ResultFeed:
    """Follows `inference.results` on a thread and serves the event loop."""

    def __init__(self, kafka: KafkaSettings, client_id: str, *, max_results: int, max_bytes: int) -> None:
        self._tail = Tail(kafka, client_id, INFERENCE_RESULTS.name, Start.END, self._on_records)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._waiters: dict[bytes, list[asyncio.Future[EndedResult]]] = {}
        self._latest: OrderedDict[bytes, EndedResult] = OrderedDict()
        self._bytes = 0
        self._max_results = max_results
        self._max_bytes = max_bytes

    @property
    def ready(self) -> bool:
        """Whether results appended from now on are seen."""
        return self._tail.ready

    def start(self) -> None:
        """Start following; must be called on the event loop's thread."""
        self._loop = asyncio.get_running_loop()
        self._tail.start()

    async def close(self) -> None:
        """Stop following."""
        await asyncio.to_thread(self._tail.close)

    def get(self, request_id: UUID) -> EndedResult | None:
        """Return how a request ended, where that was seen lately."""
        return self._latest.get(request_id_key(request_id))

    @contextmanager
    def waiter(self, request_id: UUID) -> Iterator[asyncio.Future[EndedResult]]:
        """Yield a future of the request's end. Enter before the request is published, so that nothing is missed."""
        key = request_id_key(request_id)
        future: asyncio.Future[EndedResult] = asyncio.get_running_loop().create_future()
        seen = self._latest.get(key)
        if seen is not None:
            future.set_result(seen)
        self._waiters.setdefault(key, []).append(future)
        try:
            yield future
        finally:
            futures = self._waiters[key]
            futures.remove(future)
            if not futures:
                del self._waiters[key]

    def _on_records(self, records: Sequence[Message]) -> None:
        # One wake-up of the event loop for all that arrived together.
        ended = [item for record in records if (item := _ended(record)) is not None]
        assert self._loop is not None
        try:
            self._loop.call_soon_threadsafe(self._remember, ended)
        except RuntimeError:
            log.debug("results.after_close")  # the loop has closed; nobody waits any more

    def _remember(self, ended: Sequence[tuple[bytes, EndedResult]]) -> None:
        for key, result in ended:
            if key in self._latest:
                continue
            self._latest[key] = result
            self._bytes += len(result.body)
            for future in self._waiters.get(key, ()):
                if not future.done():
                    future.set_result(result)
        while len(self._latest) > self._max_results or self._bytes > self._max_bytes:
            _, dropped = self._latest.popitem(last=False)
            self._bytes -= len(dropped.body)


def _ended(record: Message) -> tuple[bytes, EndedResult] | None:
    try:
        result = read_result(record)
    except BadMessage:
        metrics.BAD_RECORDS.labels(INFERENCE_RESULTS.name).inc()  # db_writer sets it aside
        return None
    key, value = record.key(), record.value()
    assert key is not None
    assert value is not None
    return key, EndedResult(result.status, result.error, result.model_version, value, from_ms(append_time_ms(record)))
