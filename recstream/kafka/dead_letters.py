"""Setting a bad record aside: its own bytes and headers, with the reason and where it came from."""

from confluent_kafka import Message

from recstream.kafka.producer import ConfirmingProducer
from recstream.kafka.records import append_time_ms, headers_of
from recstream.messages.codec import BadMessage
from recstream.messages.topics import Topic
from recstream.ops import metrics


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
