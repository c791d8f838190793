"""Requests for recommendations: accept, wait, look up, cancel."""

import hashlib
import re
from typing import Annotated
from uuid import UUID

import msgspec
import structlog
from fastapi import APIRouter, Header, Path, Request, Response

from api.acceptor import Draft, IdempotencyKey
from api.histories import read_history
from api.lookup import Resource, read_request, wait_for
from api.problems import Problem, not_found, unavailable
from api.publisher import NotDelivered, Outgoing
from api.schemas import Recommendation, RecommendationRequest, RequestStatus
from api.services import ApiServices, Services
from api.strict_json import StrictJSONRoute
from recstream.kafka.spans import sending
from recstream.messages.codec import encode
from recstream.messages.envelope import event_headers
from recstream.messages.identifiers import new_request_id, request_id_key
from recstream.messages.inference import (
    MAX_EXCLUDE,
    MAX_HISTORY,
    InferenceRequested,
    InferenceResult,
)
from recstream.messages.outcomes import cancelled
from recstream.messages.request_log import log_end
from recstream.messages.topics import INFERENCE_REQUESTS, INFERENCE_RESULTS
from recstream.ops.clock import utc_now
from recstream.ops.traceparent import trace_id_of, valid_traceparent
from recstream.ops.tracing import Attributes

log = structlog.get_logger()

router = APIRouter(prefix="/v1/recommendations", tags=["recommendations"], route_class=StrictJSONRoute)

_WAIT = re.compile(r"(?:^|[,;\s])wait\s*=\s*\"?(\d{1,6})\"?", re.IGNORECASE)
_KEY = re.compile(r"[!-~]{1,255}")
_CREATION: Attributes = {
    "messaging.system": "kafka",
    "messaging.operation.type": "create",
    "messaging.operation.name": "create",
    "messaging.destination.name": INFERENCE_REQUESTS.name,
}
_CANCEL_SECONDS = 2
"""How long a cancellation waits to see itself, or what came before it, on the topic."""


@router.post(
    "",
    status_code=202,
    response_model=Recommendation,
    responses={
        200: {"model": Recommendation, "description": "Ended within the time of `Prefer: wait`."},
        202: {"description": "Accepted; `Location` tells where the result will be."},
    },
)
async def create(
    request: Request,
    body: RecommendationRequest,
    services: Services,
    prefer: Annotated[str | None, Header(description="`wait=N`: seconds to wait for the result.")] = None,
    idempotency_key: Annotated[str | None, Header(description="Makes a repetition harmless for a day.")] = None,
    traceparent: Annotated[str | None, Header(description="W3C trace context, handed on.")] = None,
) -> Response:
    """Accept a request. It is never lost once this answers 202 or 200."""
    services.outbox.check_room()
    within = valid_traceparent(traceparent)
    creation = services.tracer.start(f"create {INFERENCE_REQUESTS.name}", "producer", within, _CREATION)
    draft = await _draft(services, body, await _idempotency(request, idempotency_key), creation.traceparent)
    creation.set("recstream.request_id", str(draft.request_id))
    wait = _wait_seconds(prefer, services.settings.max_wait_seconds)
    resource = Resource(draft.request_id, RequestStatus.PENDING, draft.user_id, draft.created_at)
    applied = {"Preference-Applied": f"wait={wait}"} if wait is not None else {}
    # The waiter stands before anything is published, so the result cannot pass unseen.
    with services.results.waiter(draft.request_id) as ended:
        with creation:
            accepted = await services.acceptor.accept(draft)
        if accepted.outbox_id is not None:
            trace_id = trace_id_of(creation.traceparent)
            log.debug("request.accepted", request_id=str(draft.request_id), trace_id=trace_id)
            if wait:
                with services.tracer.start("wait for result", "internal", within):
                    result = await wait_for(services, draft.request_id, ended, wait)
                if result is not None:
                    resource.end(result)
                    log_end(draft.request_id, result.status, result.model_version, result.error, creation.traceparent)
            return _answer(resource, applied)
    # The key's earlier request stands for this one, in flight or done.
    earlier = accepted.request_id
    with services.results.waiter(earlier) as ended:
        found = await read_request(services, earlier)
        if found is None:
            raise not_found("request")
        if (
            wait
            and found.status is RequestStatus.PENDING
            and (result := await wait_for(services, earlier, ended, wait)) is not None
        ):
            found.end(result)
    return _answer(found, applied)


@router.get("/{request_id}", response_model=Recommendation)
async def read(
    services: Services,
    request_id: Annotated[UUID, Path(description="As in the 202's Location.")],
    prefer: Annotated[str | None, Header(description="`wait=N`: seconds to wait for the result.")] = None,
) -> Response:
    """Return a request and, when it has ended, its result."""
    wait = _wait_seconds(prefer, services.settings.max_wait_seconds)
    with services.results.waiter(request_id) as ended:
        found = await read_request(services, request_id)
        if found is None:
            raise not_found("request")
        if wait and found.status is RequestStatus.PENDING:
            result = await wait_for(services, request_id, ended, wait)
            if result is not None:
                found.end(result)
    headers = {"Preference-Applied": f"wait={wait}"} if wait is not None else {}
    if found.status is RequestStatus.PENDING:
        headers["Retry-After"] = "1"
    return Response(msgspec.json.encode(found), 200, headers, media_type="application/json")


@router.delete(
    "/{request_id}",
    response_model=Recommendation,
    responses={
        200: {"description": "It has ended: CANCELLED, or otherwise where something else came first."},
        202: {"model": Recommendation, "description": "The cancellation is on its way; `GET` will tell."},
    },
)
async def cancel(
    services: Services,
    request_id: Annotated[UUID, Path(description="As in the 202's Location.")],
    prefer: Annotated[str | None, Header(description="`wait=N`: seconds to wait for the end.")] = None,
    traceparent: Annotated[str | None, Header(description="W3C trace context, handed on.")] = None,
) -> Response:
    """Cancel a request. Repeating it, or cancelling what has ended, changes nothing and tells how it ended."""
    wait = _wait_seconds(prefer, services.settings.max_wait_seconds)
    applied = {"Preference-Applied": f"wait={wait}"} if wait is not None else {}
    with services.results.waiter(request_id) as ended:
        found = await read_request(services, request_id)
        if found is None:
            raise not_found("request")
        if found.status is RequestStatus.PENDING:
            await _publish_cancellation(services, request_id, valid_traceparent(traceparent))
            # Whichever record came first on the topic counts, and this one may not be it.
            result = await wait_for(services, request_id, ended, _CANCEL_SECONDS if wait is None else wait)
            if result is not None:
                found.end(result)
    return _answer(found, applied)


async def _publish_cancellation(services: ApiServices, request_id: UUID, within: str | None) -> None:
    span = sending(services.tracer, INFERENCE_RESULTS.name, within)
    record = Outgoing(
        INFERENCE_RESULTS.name,
        request_id_key(request_id),
        encode(cancelled(request_id)),
        event_headers(InferenceResult, "api", event_id=str(request_id), traceparent=span.traceparent),
    )
    try:
        with span:
            await services.publisher.send_all([record])
    except NotDelivered as error:
        raise unavailable("Kafka did not confirm the cancellation; send it again.") from error


def _answer(resource: Resource, headers: dict[str, str]) -> Response:
    pending = resource.status is RequestStatus.PENDING
    headers = headers | {"Location": f"/v1/recommendations/{resource.request_id}"}
    if pending:
        headers["Retry-After"] = "1"
    return Response(msgspec.json.encode(resource), 202 if pending else 200, headers, media_type="application/json")


async def _draft(
    services: ApiServices, body: RecommendationRequest, idempotency: IdempotencyKey | None, traceparent: str | None
) -> Draft:
    history, exclude = body.history, dict.fromkeys(body.exclude)
    if body.user_id is not None:
        async with services.engine.connect() as connection:
            stored = await read_history(connection, body.user_id, body.history_limit)
        exclude |= dict.fromkeys(stored.dismissed)
        if history is None:
            history = stored.items
            if body.exclude_seen:
                exclude |= dict.fromkeys(stored.seen_before)
    message = InferenceRequested(
        request_id=new_request_id(),
        user_id=body.user_id,
        history=[*(history or ()), *body.recent_items][-MAX_HISTORY:],
        exclude=list(exclude)[:MAX_EXCLUDE],
        k=body.k,
        exclude_seen=body.exclude_seen,
        remaining_ms=body.deadline_ms,
    )
    return Draft(
        request_id=message.request_id,
        user_id=body.user_id,
        body=encode(message),
        headers=event_headers(InferenceRequested, "api", event_id=str(message.request_id), traceparent=traceparent),
        created_at=utc_now(),
        lifetime_seconds=(
            body.deadline_ms / 1000 if body.deadline_ms is not None else services.settings.max_pending_seconds
        ),
        idempotency=idempotency,
    )


async def _idempotency(request: Request, key: str | None) -> IdempotencyKey | None:
    if key is None:
        return None
    if not _KEY.fullmatch(key):
        raise Problem(400, "bad-idempotency-key", "An Idempotency-Key is 1-255 visible ASCII characters.")
    return IdempotencyKey(key, hashlib.sha256(await request.body()).digest())


def _wait_seconds(prefer: str | None, most: int) -> int | None:
    """Return the seconds of RFC 7240's `wait` preference, at most `most`; None where it is not asked for."""
    match = _WAIT.search(prefer) if prefer is not None else None
    return min(int(match[1]), most) if match is not None else None
