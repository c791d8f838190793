"""What the workers say of themselves on `system.status`."""

from collections.abc import Sequence
from datetime import timedelta

import structlog
from confluent_kafka import Message

from recstream.kafka.settings import KafkaSettings
from recstream.kafka.tail import Start, Tail
from recstream.messages.codec import BadMessage, decode
from recstream.messages.control import WorkerStatus
from recstream.messages.topics import SYSTEM_STATUS
from recstream.ops import metrics
from recstream.ops.clock import utc_now

log = structlog.get_logger()

_ALIVE_FOR = timedelta(seconds=20)
"""Workers report every five seconds."""
_REMEMBERED_FOR = timedelta(hours=1)


class WorkerFeed:
    """Follows the topic from its beginning; a worker that left cleanly is gone, one that died goes stale."""

    def __init__(self, kafka: KafkaSettings, client_id: str) -> None:
        self._tail = Tail(kafka, client_id, SYSTEM_STATUS.name, Start.BEGINNING, self._on_records)
        self._latest: dict[bytes, WorkerStatus] = {}

    def start(self) -> None:
        """Start following; returns at once."""
        metrics.WORKERS_ALIVE.set_function(lambda: sum(alive for _, alive in self.workers()))
        self._tail.start()

    def close(self) -> None:
        """Stop following. Blocks."""
        self._tail.close()

    def workers(self) -> list[tuple[WorkerStatus, bool]]:
        """Return each worker's latest word and whether it still reports, by id."""
        now = utc_now()
        return sorted(
            (
                (status, now - status.reported_at < _ALIVE_FOR)
                for status in list(self._latest.values())
                if now - status.reported_at < _REMEMBERED_FOR
            ),
            key=lambda entry: entry[0].worker_id,
        )

    def _on_records(self, records: Sequence[Message]) -> None:
        for record in records:
            key, value = record.key(), record.value()
            if key is None:
                continue
            if value is None:
                self._latest.pop(key, None)
                continue
            try:
                self._latest[key] = decode(value, WorkerStatus)
            except BadMessage as error:
                metrics.BAD_RECORDS.labels(SYSTEM_STATUS.name).inc()
                log.warning("status.ignored", offset=record.offset(), reason=error.reason)
