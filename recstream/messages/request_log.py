"""The log line that every service writes when it sees a request end: the same members, whoever writes it."""

import logging
from uuid import UUID

import structlog

from recstream.messages.inference import ResultError, Status
from recstream.ops.traceparent import trace_id_of

log = structlog.get_logger()


def log_end(
    request_id: UUID, status: Status, model_version: str | None, error: ResultError | None, traceparent: str | None
) -> None:
    """Say how a request ended: `request.failed` at warning, `request.ended` at debug."""
    failed = status is Status.FAILED
    # Thousands of requests a second end; making the members of a line that is not written would cost more than it.
    if not failed and not log.is_enabled_for(logging.DEBUG):
        return
    members: dict[str, str | None] = {
        "request_id": str(request_id),
        "trace_id": trace_id_of(traceparent),
        "model_version": model_version,
        "status": status.value,
    }
    if error is not None:
        members |= {"error_type": error.type, "error": error.detail}
    if failed:
        log.warning("request.failed", **members)
    else:
        log.debug("request.ended", **members)
