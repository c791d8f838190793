"""What a consumed record holds, with the types that a record without an error always has."""

from confluent_kafka import Message

Partition = tuple[str, int]
"""Topic and partition number."""


def partition_of(record: Message) -> Partition:
    """Return the topic and partition that a consumed record came from."""
    topic, partition = record.topic(), record.partition()
    assert topic is not None
    assert partition is not None
    return topic, partition


def offset_of(record: Message) -> int:
    """Return a consumed record's offset."""
    offset = record.offset()
    assert offset is not None
    return offset


def headers_of(record: Message) -> list[tuple[str, bytes]]:
    """Return the headers in their order; a header without a value counts as empty."""
    headers = record.headers() or []
    pairs = headers.items() if isinstance(headers, dict) else headers
    return [(name, value.encode() if isinstance(value, str) else value or b"") for name, value in pairs]


def append_time_ms(record: Message) -> int:
    """Return when the broker appended the record, in milliseconds since the epoch (topics use LogAppendTime)."""
    return record.timestamp()[1]
