"""Record headers: CloudEvents 1.0 in Kafka binary mode, and W3C trace context.

Sources: CloudEvents Kafka Protocol Binding 1.0.2, section 3.2; W3C Trace Context Level 1.
"""

import uuid
from collections.abc import Sequence

from msgspec import Struct

from recstream.messages.activity import InteractionRecorded
from recstream.messages.codec import BadMessage, Reason
from recstream.messages.control import ModelAnnounced, WorkerStatus
from recstream.messages.inference import InferenceRequested, InferenceResult
from recstream.ops.clock import to_rfc3339, utc_now

Headers = list[tuple[str, bytes]]

EVENT_TYPES: dict[type[Struct], str] = {
    InferenceRequested: "recstream.inference.requested.v1",
    InferenceResult: "recstream.inference.result.v1",
    InteractionRecorded: "recstream.interaction.recorded.v1",
    ModelAnnounced: "recstream.model.announced.v1",
    WorkerStatus: "recstream.worker.status.v1",
}
"""The type carries the version: a change that old readers cannot follow gets a new one."""


def event_headers(
    kind: type[Struct], source: str, *, event_id: str | None = None, traceparent: str | None = None
) -> Headers:
    """Return the headers of a new record of `kind` from the service `source`; `event_id` defaults to a new UUID."""
    headers = [
        ("ce_specversion", b"1.0"),
        ("ce_id", (event_id or str(uuid.uuid4())).encode()),
        ("ce_type", EVENT_TYPES[kind].encode()),
        ("ce_source", f"/recstream/{source}".encode()),
        ("ce_time", to_rfc3339(utc_now()).encode()),
        ("content-type", b"application/json"),
    ]
    if traceparent is not None:
        headers.append(("traceparent", traceparent.encode()))
    return headers


def header(headers: Sequence[tuple[str, bytes]], name: str) -> str | None:
    """Return the last header of that name as text, or None; undecodable bytes count as absent."""
    for key, value in reversed(headers):
        if key == name:
            try:
                return value.decode()
            except UnicodeDecodeError:
                return None
    return None


def check_event_type(headers: Sequence[tuple[str, bytes]], kind: type[Struct]) -> None:
    """Accept a record of `kind`, or one that names no type (written by hand or by a plain producer).

    Raises:
        BadMessage: the record names another type or version.
    """
    found = header(headers, "ce_type")
    if found is not None and found != EVENT_TYPES[kind]:
        raise BadMessage(Reason.UNKNOWN_TYPE, f"expected type {EVENT_TYPES[kind]}, found another")
