"""Dead letters: setting a bad record aside with its own bytes, finding it again, and sending it once more.

A dead letter is the record itself: key, value and headers, with headers of ours behind them that tell why, when and
where from. It is never changed or removed; that it was sent once more stands in the table `redrives`.
"""

import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Self

from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from recstream.kafka.producer import ConfirmingProducer
from recstream.kafka.records import append_time_ms, headers_of, offset_of, partition_of
from recstream.kafka.settings import KafkaSettings
from recstream.messages.codec import BadMessage
from recstream.messages.envelope import Headers, header
from recstream.messages.topics import TOPICS, Topic
from recstream.ops import metrics
from recstream.ops.clock import from_ms

SOURCES = {topic.name: topic for topic in TOPICS if topic.dead_lettered}
"""Topics that have dead letters, by name."""
REDRIVES = "dlq_redrives"
"""The header that counts how often a record was sent once more; it goes with the record."""

_PREFIX = "dlq_"
_TIMEOUT = 5.0
_ID = re.compile(r"([a-z.]{1,100}):(\d{1,9}):(\d{1,18})")


def send_dead_letter(
    producer: ConfirmingProducer, topic: Topic, record: Message, error: BadMessage, *, service: str
) -> None:
    """Queue `record` for the dead-letter topic of `topic`; the loop's flush confirms it.

    The headers `dlq_reason`, `dlq_detail`, `dlq_topic`, `dlq_partition`, `dlq_offset`, `dlq_timestamp_ms` and
    `dlq_service` come after the record's own, whose bytes are untouched.
    """
    added = {
        "dlq_reason": error.reason.value,
        "dlq_detail": str(error)[:500],
        "dlq_topic": topic.name,
        "dlq_partition": str(record.partition()),
        "dlq_offset": str(record.offset()),
        "dlq_timestamp_ms": str(append_time_ms(record)),
        "dlq_service": service,
    }
    producer.produce(
        topic.dead_letters.name,
        key=record.key(),
        value=record.value(),
        # A parser's message may quote a lone surrogate from the record.
        headers=headers_of(record) + [(name, text.encode(errors="replace")) for name, text in added.items()],
    )
    metrics.DEAD_LETTERS.labels(topic.name, error.reason.value).inc()


@dataclass(frozen=True, slots=True)
class LetterId:
    """Where a dead letter lies; as text `inference.requests.dlq:0:17`, which needs no escaping in a URL."""

    topic: str
    partition: int
    offset: int

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the id in `text`. Raises UnknownLetter where it is none, or of a topic that has no dead letters."""
        match = _ID.fullmatch(text)
        if match is None or match[1].removesuffix(".dlq") not in SOURCES or not match[1].endswith(".dlq"):
            raise UnknownLetter
        return cls(match[1], int(match[2]), int(match[3]))

    def __str__(self) -> str:
        return f"{self.topic}:{self.partition}:{self.offset}"


class UnknownLetter(LookupError):
    """There is no such dead letter, or no longer: they are kept for two weeks."""


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A record that was set aside. `source_*` tell where it lay before, as far as its headers say."""

    id: LetterId
    key: bytes | None
    value: bytes | None
    headers: Headers
    """Its own, without ours."""
    reason: str
    detail: str
    source: Topic
    source_partition: int | None
    source_offset: int | None
    source_time: datetime | None
    set_aside_at: datetime
    service: str | None
    redrives: int
    """How often it was sent once more before it came here."""


def list_letters(
    kafka: KafkaSettings, sources: Sequence[Topic], limit: int, before: Mapping[str, int] | None = None
) -> list[DeadLetter]:
    """Return the latest `limit` dead letters of each topic, latest first.

    `before` gives, by dead-letter topic, the offset to stay below.

    Raises:
        KafkaException: the broker does not answer.
    """
    before = before or {}
    found = []
    consumer = _reader(kafka)
    try:
        for source in sources:
            topic = source.dead_letters.name
            for partition in range(source.dead_letters.partitions):
                low, high = _watermarks(consumer, topic, partition)
                end = min(high, before.get(topic, high))
                found += _read(consumer, topic, partition, max(low, end - limit), end)
    finally:
        consumer.close()
    return sorted(found, key=lambda letter: (letter.set_aside_at, letter.id.offset), reverse=True)


def find_letter(kafka: KafkaSettings, letter_id: LetterId) -> DeadLetter:
    """Return one dead letter.

    Raises:
        UnknownLetter: it is not there.
        KafkaException: the broker does not answer.
    """
    consumer = _reader(kafka)
    try:
        if letter_id.partition >= SOURCES[letter_id.topic.removesuffix(".dlq")].dead_letters.partitions:
            raise UnknownLetter
        low, high = _watermarks(consumer, letter_id.topic, letter_id.partition)
        if not low <= letter_id.offset < high:
            raise UnknownLetter
        found = _read(consumer, letter_id.topic, letter_id.partition, letter_id.offset, letter_id.offset + 1)
    finally:
        consumer.close()
    if not found:
        raise UnknownLetter
    return found[0]


def _reader(kafka: KafkaSettings) -> Consumer:
    # Nothing is committed, so the group is a name only.
    return Consumer(kafka.consumer("dead-letters", group="dead-letters"))


def _watermarks(consumer: Consumer, topic: str, partition: int) -> tuple[int, int]:
    watermarks = consumer.get_watermark_offsets(TopicPartition(topic, partition), timeout=_TIMEOUT, cached=False)
    if watermarks is None:
        raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
    return watermarks


def _read(consumer: Consumer, topic: str, partition: int, start: int, end: int) -> list[DeadLetter]:
    """Return the dead letters from `start` to below `end`."""
    found: list[DeadLetter] = []
    if start >= end:
        return found
    consumer.assign([TopicPartition(topic, partition, start)])
    deadline = time.monotonic() + _TIMEOUT
    while True:
        for record in consumer.consume(min(500, end - start), 0.5):
            error = record.error()
            if error is not None:
                raise KafkaException(error)
            if partition_of(record) != (topic, partition) or offset_of(record) >= end:
                continue  # what an earlier assignment had fetched, or newer than asked for
            found.append(_letter(record))
            deadline = time.monotonic() + _TIMEOUT
        if found and found[-1].id.offset == end - 1:
            return found
        if time.monotonic() > deadline:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))


def _letter(record: Message) -> DeadLetter:
    topic, partition = partition_of(record)
    headers = headers_of(record)
    timestamp_ms = _number(headers, "dlq_timestamp_ms")
    return DeadLetter(
        id=LetterId(topic, partition, offset_of(record)),
        key=record.key(),
        value=record.value(),
        headers=[(name, value) for name, value in headers if not name.startswith(_PREFIX)],
        reason=header(headers, "dlq_reason") or "unknown",
        detail=header(headers, "dlq_detail") or "",
        source=SOURCES[topic.removesuffix(".dlq")],
        source_partition=_number(headers, "dlq_partition"),
        source_offset=_number(headers, "dlq_offset"),
        source_time=from_ms(timestamp_ms) if timestamp_ms is not None else None,
        set_aside_at=from_ms(append_time_ms(record)),
        service=header(headers, "dlq_service"),
        redrives=_number(headers, REDRIVES) or 0,
    )


def _number(headers: Headers, name: str) -> int | None:
    text = header(headers, name)
    return int(text) if text is not None and text.isascii() and text.isdigit() and len(text) < 16 else None
