"""The loop that worker and db_writer share: take, handle, flush, and only then mark as done (promise 3).

A record counts as done when every effect of it is confirmed. A crash at any point therefore repeats records and
never skips one; the sinks are idempotent. What is repeated and kills the process each time is set aside (promise 4).
"""

import threading
import time
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import structlog
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from recstream.kafka.breaker import Breaker, Tripped
from recstream.kafka.producer import ConfirmingProducer
from recstream.kafka.records import Partition, offset_of, partition_of
from recstream.kafka.settings import KafkaSettings
from recstream.messages.codec import BadMessage, Reason
from recstream.ops import metrics

log = structlog.get_logger()


class Handler(Protocol):
    """What a service does with records. Idempotent."""

    def __call__(self, records: Sequence[Message]) -> None:
        """Process a batch; its effects are durable on return, or are produced through the loop's producer.

        Raises:
            Tripped: by the breaker's judgement; the batch is left where it is.
            Unfinished: it was not the records' fault.
        """

    def set_aside(self, record: Message, error: BadMessage) -> None:
        """Produce one record to its dead letters, with whatever must follow from that."""


class Unfinished(RuntimeError):
    """A handler could not finish for a reason outside the records, such as being told to stop meanwhile."""


class Source(Protocol):
    """Where records come from. A share-group source (KIP-932) can take this place when it leaves preview."""

    def join(self) -> None:
        """Begin to take part. Again after `leave`, too."""

    def take(self, limit: int) -> list[Message]:
        """Wait for the first record, drain what is already there, return at most `limit`; empty after a while."""

    def begin(self, records: Sequence[Message]) -> int:
        """Note that records will be handled; return how often the first was begun before and never finished."""

    def done(self, records: Sequence[Message]) -> None:
        """Mark records as processed; they are committed soon, at once on a revoke and on leaving."""

    def leave(self, *, clean: bool) -> None:
        """Commit what is done and leave the group. Not clean: what was begun is suspected of the failure."""


def run(
    source: Source,
    handler: Handler,
    producer: ConfirmingProducer,
    stop: threading.Event,
    *,
    batch: int,
    breaker: Breaker,
    max_attempts: int,
) -> None:
    """Process batches of at most `batch` records until `stop` is set, then finish, commit and leave.

    Any exception leaves the batch uncommitted and passes on: the process shall end and be started again rather than
    skip what it could not do. A record that ended the process `max_attempts` times is set aside.
    """
    source.join()
    clean = True
    try:
        while not stop.is_set():
            if not breaker.closed:
                source.leave(clean=True)
                stop.wait(breaker.seconds_left)
                breaker.probe()
                source.join()
                continue
            records = source.take(breaker.limit(batch))
            if not records:
                continue
            clean = False
            try:
                if source.begin(records) >= max_attempts:
                    culprit = BadMessage(Reason.CRASH, f"the process ended at this record {max_attempts} times")
                    handler.set_aside(records[0], culprit)
                else:
                    handler(records)
            except Tripped:
                clean = True
                continue
            except Unfinished:
                clean = True
                raise
            clean = True
            producer.flush()
            source.done(records)
    finally:
        source.leave(clean=clean)


_CLEAN, _RUNNING, _ATTEMPT = "clean", "running", "attempt:"
"""Metadata of a committed offset: who committed left in order; was at work behind it; began that one record."""
_SUSPECTS = 1_000
"""Records after an unclean end that are taken one by one: about what a commit lags behind. Were the culprit further
on, the next unclean end would find it: each one gets at least this far."""
_TIMEOUT = 5.0


@dataclass(slots=True)
class _Position:
    """Where a partition stands. `following` is the offset to commit, None until it is known."""

    following: int | None = None
    dirty: bool = False
    suspect_until: int | None = None
    attempts: int = 0
    """How often the record at `following` was begun and not finished."""


class GroupSource:
    """Records of one or more topics as a member of a consumer group (KIP-848's protocol, brokers from 4.0).

    Each committed offset tells in its metadata whether its committer was at work there. Whoever is assigned such a
    partition after an unclean end takes records one by one and counts attempts in the same place, on the broker, so
    that the count survives the process and passes to whichever member comes next.
    """

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
        self._topics = list(topics)
        self._positions: dict[Partition, _Position] = {}
        self._backlog: deque[Message] = deque()
        config = settings.consumer(client_id, group) | {"group.protocol": "consumer"}
        self._config = config | {"on_commit": self._on_commit}
        self._member: Consumer | None = None

    @property
    def assigned(self) -> bool:
        """Whether the group has given this member any partition."""
        return bool(self._positions)

    @property
    def _consumer(self) -> Consumer:
        assert self._member is not None, "join() comes first"
        return self._member

    def join(self) -> None:
        """See Source."""
        self._member = Consumer(self._config)
        self._member.subscribe(
            self._topics, on_assign=self._on_assign, on_revoke=self._on_revoke, on_lost=self._on_lost
        )

    def take(self, limit: int) -> list[Message]:
        """See Source. Raises KafkaException on an error that the client cannot recover from."""
        self._commit_if_due()
        self._poll(limit)
        if not self._know_positions():
            return []
        if any(position.suspect_until is not None for position in self._positions.values()):
            limit = 1
        taken = [self._backlog.popleft() for _ in range(min(limit, len(self._backlog)))]
        for record in taken:
            metrics.CONSUMED.labels(record.topic()).inc()
        return taken

    def begin(self, records: Sequence[Message]) -> int:
        """See Source. Costs nothing but where an unclean end lies behind."""
        partition, offset = partition_of(records[0]), offset_of(records[0])
        position = self._positions.get(partition)
        if position is None or position.suspect_until is None:
            return 0
        begun = position.attempts
        self._commit([TopicPartition(*partition, offset, f"{_ATTEMPT}{begun + 1}")])
        position.dirty = False
        return begun

    def done(self, records: Sequence[Message]) -> None:
        """See Source. Records whose partition was taken away meanwhile are left to its new owner."""
        counted = False
        for record in records:
            position = self._positions.get(partition_of(record))
            if position is None:
                continue
            counted = counted or position.suspect_until is not None
            position.following, position.dirty, position.attempts = offset_of(record) + 1, True, 0
            if position.suspect_until is not None and position.following >= position.suspect_until:
                position.suspect_until = None
        if counted:
            # At once, not with the next periodic commit: were the process to end before that, the mark of this attempt
            # would still stand, and a record that was finished would count as one that ends the process.
            self._consumer.commit(offsets=self._dirty(), asynchronous=True)

    def leave(self, *, clean: bool) -> None:
        """See Source. Harmless where it has left already."""
        if self._member is None:
            return
        try:
            self._commit(self._offsets(self._positions, _CLEAN) if clean else self._dirty())
        finally:
            # First, because closing revokes what is owned, and that would count as clean.
            self._positions.clear()
            self._backlog.clear()
            self._member.close()
            self._member = None

    def _poll(self, limit: int) -> None:
        """Take what has arrived into the backlog, which is longer than a batch only while records come one by one."""
        first = self._consumer.poll(0 if self._backlog else self._wait_seconds)
        if first is None:
            return
        # consume(n, timeout) would wait for n *or* the timeout; with 0 it takes what has arrived and costs no latency.
        room = limit - len(self._backlog) - 1
        arrived = [first, *self._consumer.consume(room, 0)] if room > 0 else [first]
        self._backlog.extend(record for record in arrived if self._usable(record))

    def _usable(self, record: Message) -> bool:
        error = record.error()
        if error is not None:
            if error.fatal() or (not error.retriable() and error.code() not in _TRANSIENT):
                # A consumer that stays "ready" after a fatal error consumes nothing, for ever.
                raise KafkaException(error)
            log.warning("kafka.consumer.error", error=error.str())
            return False
        # consume() can return records of a partition that the same call gave up (confluent-kafka-python#1013).
        return partition_of(record) in self._positions

    def _know_positions(self) -> bool:
        """Learn where new partitions stand and how they were left; False where the broker does not tell now."""
        new = [TopicPartition(*key) for key, position in self._positions.items() if position.following is None]
        if not new:
            return True
        begun = []
        try:
            for found in self._consumer.committed(new, timeout=_TIMEOUT):
                if found.error is not None:
                    raise KafkaException(found.error)
                key, offset = (found.topic, found.partition), found.offset
                if offset < 0:  # nobody has committed here yet
                    watermarks = self._consumer.get_watermark_offsets(TopicPartition(*key), timeout=_TIMEOUT)
                    if watermarks is None:
                        return False
                    offset = watermarks[0]
                position = self._positions[key]
                position.following = offset
                if found.offset < 0 or found.metadata in (None, "", _CLEAN):
                    begun.append(TopicPartition(*key, offset, _RUNNING))
                    continue
                position.suspect_until = offset + _SUSPECTS
                position.attempts = _attempts(found.metadata)
                log.warning("kafka.unclean_end", partition=key, offset=offset, attempts=position.attempts)
        except KafkaException as error:
            log.warning("kafka.positions.unknown", error=str(error))
            return False
        self._commit(begun)
        return True

    def _commit_if_due(self) -> None:
        now = time.monotonic()
        if now - self._last_commit < self._commit_interval:
            return
        self._last_commit = now
        if offsets := self._dirty():
            self._consumer.commit(offsets=offsets, asynchronous=True)
        self._observe_lag()

    def _dirty(self) -> list[TopicPartition]:
        return self._offsets({key: position for key, position in self._positions.items() if position.dirty}, _RUNNING)

    def _offsets(self, positions: dict[Partition, _Position], metadata: str) -> list[TopicPartition]:
        offsets = []
        for key, position in positions.items():
            if position.following is not None:
                offsets.append(TopicPartition(*key, position.following, metadata))
                position.dirty = False
        return offsets

    def _commit(self, offsets: list[TopicPartition]) -> None:
        if not offsets:
            return
        try:
            self._consumer.commit(offsets=offsets, asynchronous=False)
        except KafkaException as error:
            # The new owner repeats these records; the sinks are idempotent.
            log.warning("kafka.commit.failed", error=str(error))

    def _observe_lag(self) -> None:
        lag: dict[str, int] = {}
        for position in self._consumer.position([TopicPartition(*owned) for owned in self._positions]):
            if position.offset < 0:
                continue
            watermarks = self._consumer.get_watermark_offsets(position, cached=True)
            lag[position.topic] = lag.get(position.topic, 0) + max(0, watermarks[1] - position.offset)
        for topic, records in lag.items():
            metrics.CONSUMER_LAG.labels(topic).set(records)

    def _on_assign(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        self._positions.update({(partition.topic, partition.partition): _Position() for partition in partitions})
        log.info("kafka.assigned", partitions=sorted(self._positions))

    def _on_revoke(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        # Called from within take(), so between two batches: what is done is all that was handled.
        revoked = self._give_up(partitions)
        self._commit(self._offsets(revoked, _CLEAN))
        log.info("kafka.revoked", partitions=sorted(revoked), left=sorted(self._positions))

    def _on_lost(self, _consumer: Consumer, partitions: list[TopicPartition]) -> None:
        log.warning("kafka.lost", partitions=sorted(self._give_up(partitions)))

    def _give_up(self, partitions: list[TopicPartition]) -> dict[Partition, _Position]:
        keys = [(partition.topic, partition.partition) for partition in partitions]
        given_up = {key: position for key in keys if (position := self._positions.pop(key, None)) is not None}
        self._backlog = deque(record for record in self._backlog if partition_of(record) in self._positions)
        return given_up

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


def _attempts(metadata: str) -> int:
    count = metadata.removeprefix(_ATTEMPT)
    return int(count) if metadata.startswith(_ATTEMPT) and count.isdigit() else 0
