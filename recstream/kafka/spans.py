"""Spans of records, by OpenTelemetry's semantic conventions for messaging and for Kafka (version 1.37).

A record's `traceparent` header names the span that made it; who takes the record continues from there.
"""

from collections.abc import Callable

from confluent_kafka import KafkaError, Message

from recstream.kafka.records import append_time_ms, offset_of, partition_of
from recstream.messages.topics import INFERENCE_REQUESTS, INFERENCE_RESULTS
from recstream.ops.tracing import Attributes, Kind, Span, Tracer

_KEYED_BY_REQUEST = (INFERENCE_REQUESTS.name, INFERENCE_RESULTS.name)
"""Activity is keyed by the person, whose id has no place in a trace."""


def sending(tracer: Tracer, topic: str, parent: Span | str | None, *, kind: Kind = "producer") -> Span:
    """Begin the span of producing a record, or several together; its end is the delivery report.

    `kind` is "client" where the record carries not this span's traceparent but that of an earlier one.
    """
    if not tracer.on:
        return tracer.start("", kind, parent)
    attributes: Attributes = {
        "messaging.system": "kafka",
        "messaging.operation.type": "send",
        "messaging.operation.name": "send",
        "messaging.destination.name": topic,
    }
    return tracer.start(f"send {topic}", kind, parent, attributes)


def ended_by_delivery(span: Span) -> Callable[[KafkaError | None], None]:
    """Return a delivery report's callback that ends the span of the sending."""

    def on_delivery(error: KafkaError | None) -> None:
        span.end(error.name() if error is not None else None)

    return on_delivery


def processing(
    tracer: Tracer, record: Message, traceparent: str | None, *, group: str, batch: int, taken_ns: int
) -> Span:
    """Begin the span of processing a consumed record, at the time it was taken (nanoseconds since the epoch).

    Its wait on the topic becomes a span of its own. `batch` is the number of records that were taken together.
    """
    if not tracer.on:
        return tracer.start("", "consumer", traceparent)
    topic, partition = partition_of(record)
    if traceparent is not None:
        # The broker's clock and ours may differ: a wait is never negative.
        appended_ns = min(append_time_ms(record) * 1_000_000, taken_ns)
        tracer.start(f"wait on {topic}", "internal", traceparent, start_ns=appended_ns).end(end_ns=taken_ns)
    attributes: dict[str, str | int | float | bool] = {
        "messaging.system": "kafka",
        "messaging.operation.type": "process",
        "messaging.operation.name": "process",
        "messaging.destination.name": topic,
        "messaging.destination.partition.id": str(partition),
        "messaging.consumer.group.name": group,
        "messaging.kafka.offset": offset_of(record),
        "messaging.batch.message_count": batch,
    }
    if topic in _KEYED_BY_REQUEST:
        attributes["recstream.request_id"] = (record.key() or b"").decode(errors="replace")
    return tracer.start(f"process {topic}", "consumer", traceparent, attributes, start_ns=taken_ns)
