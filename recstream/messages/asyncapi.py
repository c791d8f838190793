"""The AsyncAPI 3.0 document of all topics, from the same table and types that the services run on."""

from typing import Any

import msgspec

from recstream.messages.envelope import EVENT_TYPES
from recstream.messages.topics import TOPICS, Topic

_HEADERS = {
    "type": "object",
    "required": ["ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type"],
    "properties": {
        "ce_specversion": {"const": "1.0"},
        "ce_id": {"type": "string", "description": "The same for every delivery of the same event."},
        "ce_type": {"type": "string", "description": "Kind and version of the message."},
        "ce_source": {"type": "string", "pattern": "^/recstream/"},
        "ce_time": {"type": "string", "format": "date-time"},
        "content-type": {"const": "application/json"},
        "traceparent": {"type": "string", "description": "W3C trace context."},
    },
}
_DEAD_LETTER = {
    "title": "A record that could not be processed, its own bytes",
    "headers": {
        "type": "object",
        "required": ["dlq_reason", "dlq_topic", "dlq_partition", "dlq_offset"],
        "properties": {
            name: {"type": "string"}
            for name in (
                "dlq_reason",
                "dlq_detail",
                "dlq_topic",
                "dlq_partition",
                "dlq_offset",
                "dlq_timestamp_ms",
                "dlq_service",
                "dlq_redrives",
            )
        },
    },
}


def asyncapi_document() -> dict[str, Any]:
    """Return the document; services are its operations' tags, seen from each service."""
    kinds = [topic.message for topic in TOPICS if topic.message is not None]
    _, schemas = msgspec.json.schema_components(kinds, ref_template="#/components/schemas/{name}")
    messages: dict[str, Any] = {
        kind.__name__: {
            "name": EVENT_TYPES[kind],
            "title": (kind.__doc__ or "").splitlines()[0],
            "contentType": "application/json",
            "headers": {"$ref": "#/components/schemas/CloudEventHeaders"},
            "payload": {"$ref": f"#/components/schemas/{kind.__name__}"},
        }
        for kind in kinds
    }
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Recstream",
            "version": "1.0.0",
            "description": "Every Kafka topic of Recstream. Made by `python -m admin asyncapi`; a test compares.",
        },
        "defaultContentType": "application/json",
        "channels": {_channel_id(topic): _channel(topic) for topic in TOPICS},
        "operations": {
            f"{service}.{action}.{_channel_id(topic)}": {
                "action": action,
                "channel": {"$ref": f"#/channels/{_channel_id(topic)}"},
                "summary": f"{service} {'writes to' if action == 'send' else 'reads from'} {topic.name}",
                "tags": [{"name": service}],
            }
            for topic in TOPICS
            for action, services in (("send", topic.writers), ("receive", topic.readers))
            for service in services
        },
        "components": {
            "schemas": {"CloudEventHeaders": _HEADERS, **schemas},
            "messages": {**messages, "DeadLetter": _DEAD_LETTER},
        },
    }


def _channel(topic: Topic) -> dict[str, Any]:
    name = topic.message.__name__ if topic.message is not None else "DeadLetter"
    configuration: dict[str, Any] = {"cleanup.policy": [topic.cleanup]}
    if topic.retention_ms is not None:
        configuration["retention.ms"] = topic.retention_ms
    return {
        "address": topic.name,
        "description": f"Key: {topic.key}. A compacted topic's null value is a tombstone."
        if topic.cleanup == "compact"
        else f"Key: {topic.key}.",
        "messages": {name: {"$ref": f"#/components/messages/{name}"}},
        "bindings": {
            "kafka": {
                "topic": topic.name,
                "partitions": topic.partitions,
                "topicConfiguration": configuration,
                "bindingVersion": "0.5.0",
            }
        },
    }


def _channel_id(topic: Topic) -> str:
    return topic.name.replace(".", "_")
