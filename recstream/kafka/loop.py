"""The loop that worker and db_writer share: take, handle, flush, and only then mark as done (promise 3).

A record counts as done when every effect of it is confirmed. A crash at any point therefore repeats records and
never skips one; the sinks are idempotent.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from recstream.kafka.producer import ConfirmingProducer
from recstream.kafka.records import Partition, offset_of, partition_of
from recstream.kafka.settings import KafkaSettings
from recstream.ops import metrics

log = structlog.get_logger()

Handle = Callable[[Sequence[Message]], None]
"""Processes a batch. Idempotent; effects are durable when it returns, or are produced through the loop's producer."""


class Source(Protocol):
    """Where records come from. A share-group source (KIP-932) can take this place when it leaves preview."""

    def take(self, limit: int) -> list[Message]:
        """Wait for the first record, drain what is already there, return at most `limit`; empty after a while."""

    def done(self, records: Sequence[Message]) -> None:
        """Mark records as processed; they are committed soon, at once on a revoke and on close."""

    def close(self) -> None:
        """Commit what is done and leave the group."""


def run(source: Source, handle: Handle, producer: ConfirmingProducer, stop: threading.Event, *, batch: int) -> None:
    """Process batches of at most `batch` records until `stop` is set, then finish, commit and close.

    Any exception leaves the batch uncommitted, closes the source and passes on: the process shall end and be
    started again rather than skip what it could not do.
    """
    try:
        while not stop.is_set():
            records = source.take(batch)
            if not records:
                continue
            handle(records)
            producer.flush()
            source.done(records)
    finally:
        source.close()


class GroupSource:
    """Records of one or more topics as a member of a consumer group (KIP-848's protocol, brokers from 4.0)."""

    def __init__(
        self,
        settings: KafkaSettings,
        client_id: str,
        group: str,
        topics: Iterable[str],
        *,
        wait_seconds: float = 0.1,
        commit_interval_seconds: float = 1.0,
    ) -> None:
        self._wait_seconds = wait_seconds
        self._commit_interval = commit_interval_seconds
        self._last_commit = time.monotonic()
        self._owned: set[Partition] = set()
        self._done: dict[Partition, int] = {}
        config = settings.consumer(client_id, group) | {"group.protocol": "consumer"}
        self._consumer = Consumer(config | {"on_commit": self._on_commit})
        self._consumer.subscribe(
            list(topics), on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    @property
    def assigned(self) -> bool:
        """Whether the group has given this member any partition."""
        return bool(self._owned)

    def take(self, limit: int) -> list[Message]:
        """See Source. Raises KafkaException on an error that the client cannot recover from."""
        self._commit_if_due()
        first = self._consumer.poll(self._wait_seconds)
        if first is None:
            return []
        # consume(n, timeout) would wait for n *or* the timeout; with 0 it takes what has arrived and costs no latency.
        records = [first, *self._consumer.consume(limit - 1, 0)] if limit > 1 else [first]
        usable = [record for record in records if self._usable(record)]
        for record in usable:
            metrics.CONSUMED.labels(record.topic()).inc()
        return usable

    def done(self, records: Sequence[Message]) -> None:
        """See Source. Records whose partition was taken away meanwhile are left to its new owner."""
        for record in records:
            partition = partition_of(record)
            if partition in self._owned:
                self._done[partition] = offset_of(record) + 1

    def close(self) -> None:
        """See Source."""
        try:
            self._commit(self._done, asynchronous=False)
        finally:
            self._consumer.close()

    def _usable(self, record: Message) -> bool:
        error = record.error()
        if error is not None:
            if error.fatal() or (not error.retriable() and error.code() not in _TRANSIENT):
                # A consumer that stays "ready" after a fatal error consumes nothing, for ever.
                raise KafkaException(error)
            log.warning("kafka.consumer.error", error=error.str())
            return False
        # consume() can return records of a partition that the same call gave up (confluent-kafka-python#1013).
        return partition_of(record) in self._owned

    def _commit_if_due(self) -> None:
        now = time.monotonic()
        if now - self._last_commit < self._commit_interval:
            return
        self._last_commit = now
        self._commit(self._done, asynchronous=True)
        self._observe_lag()

    def _commit(self, offsets: dict[Partition, int], *, asynchronous: bool) -> None:
        if not offsets:
            return
        positions = [TopicPartition(topic, partition, offset) for (topic, partition), offset in offsets.items()]
        for partition in list(offsets):
            self._done.pop(partition, None)
        if asynchronous:
            self._consumer.commit(offsets=positions, asynchronous=True)
            return
        try:
            self._consumer.commit(offsets=positions, asynchronous=False)
        except KafkaException as error:
            # The new owner repeats these records; the sinks are idempotent.
            log.warning("kafka.commit.failed", error=str(error))

    def _observe_lag(self) -> None:
        lag: dict[str, int] = {}
        for position in self._consumer.position([TopicPartition(*owned) for owned in self._owned]):
            if position.offset < 0:
                continue
            watermarks = self._consumer.get_watermark_offsets(position, cached=True)
            lag[position.topic] = lag.get(position.topic, 0) + max(0, watermarks[1] - position.offset)
        for topic, records in lag.items():
            metrics.CONSUMER_LAG.labels(topic).set(records)

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._owned.update((partition.topic, partition.partition) for partition in partitions)
        log.info("kafka.assigned", partitions=sorted(self._owned))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Called from within take(), so between two batches: what is done is all that was handled.
        revoked = {(partition.topic, partition.partition) for partition in partitions}
        self._commit({key: offset for key, offset in self._done.items() if key in revoked}, asynchronous=False)
        self._owned -= revoked
        log.info("kafka.revoked", partitions=sorted(revoked), left=sorted(self._owned))

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        lost = {(partition.topic, partition.partition) for partition in partitions}
        for partition in lost:
            self._done.pop(partition, None)
        self._owned -= lost
        log.warning("kafka.lost", partitions=sorted(lost))

    def _on_commit(self, error: KafkaError | None, _partitions: list[TopicPartition]) -> None:
        if error is not None:
            log.warning("kafka.commit.failed", error=error.str())


# Reported while a broker is away or a topic's leader moves; the client retries by itself.
_TRANSIENT = {
    KafkaError._ALL_BROKERS_DOWN,
    KafkaError._TRANSPORT,
    KafkaError._RESOLVE,
    KafkaError._TIMED_OUT,
    KafkaError._MAX_POLL_EXCEEDED,
    KafkaError._PARTITION_EOF,
    KafkaError.UNKNOWN_TOPIC_OR_PART,
    KafkaError._UNKNOWN_TOPIC,
    KafkaError._UNKNOWN_PARTITION,
    KafkaError._AUTO_OFFSET_RESET,
}
