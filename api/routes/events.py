"""A request's life as server-sent events."""

import asyncio
from collections.abc import AsyncIterator
from typing import Annotated, Any
from uuid import UUID

import msgspec
from fastapi import APIRouter, Depends, Header, Path, Response
from fastapi.responses import StreamingResponse
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event

from api.lookup import Resource, read_request, read_result
from api.problems import not_found
from api.result_feed import EndedResult
from api.schemas import RequestStatus
from api.services import ApiServices, Services

router = APIRouter(prefix="/v1/recommendations", tags=["recommendations"])

_PENDING, _ENDED = "pending", "ended"
"""Names of the events and their ids at once: an id tells a state, so any replica can go on from it."""
_RECONNECT_MS = 1_000
_EXAMPLE = """\
event: pending
data: {"request_id":"...","status":"PENDING",...}
id: pending
retry: 1000

: ping

event: ended
data: {"request_id":"...","status":"COMPLETED",...}
id: ended
"""


async def _slot(services: Services) -> AsyncIterator[None]:
    with services.streams.slot():
        yield


async def _waiter(
    services: Services, request_id: Annotated[UUID, Path(description="As in the 202's Location.")]
) -> AsyncIterator["asyncio.Future[EndedResult]"]:
    with services.results.waiter(request_id) as ended:
        yield ended


@router.get(
    "/{request_id}/events",
    # Not EventSourceResponse, which would have FastAPI drive a generator: 404 and 204 could not be answered then.
    response_class=StreamingResponse,
    # Dependencies, because they last as long as the answer is being sent.
    dependencies=[Depends(_slot)],
    responses={
        200: {
            "description": "`pending` while it is open, then `ended`; comments in between keep the connection.",
            "content": {"text/event-stream": {"schema": {"type": "string"}, "example": _EXAMPLE}},
        },
        204: {"description": "`Last-Event-ID: ended`: there is nothing more, do not reconnect."},
    },
)
async def events(
    services: Services,
    request_id: Annotated[UUID, Path(description="As in the 202's Location.")],
    ended: Annotated["asyncio.Future[EndedResult]", Depends(_waiter)],
    last_event_id: Annotated[str | None, Header(description="Of the stream that is resumed.")] = None,
) -> Response:
    """Stream what becomes of a request, until it has ended. Each event's data is what GET returns at that moment."""
    found = await read_request(services, request_id)
    if found is None:
        raise not_found("request")
    if last_event_id == _ENDED:
        return Response(status_code=204)
    stream = _events(services, found, ended, announce=last_event_id != _PENDING)
    return EventSourceResponse(stream, headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"})


async def _events(
    services: ApiServices, resource: Resource, ended: "asyncio.Future[EndedResult]", *, announce: bool
) -> AsyncIterator[bytes]:
    if resource.status is RequestStatus.PENDING:
        # Something is sent at once in any case, so that the client sees the stream open.
        yield _event(_PENDING, resource) if announce else KEEPALIVE_COMMENT
        settings, loop = services.settings, asyncio.get_running_loop()
        either: set[asyncio.Future[Any]] = {ended, services.streams.stopping}
        until = loop.time() + settings.stream_max_seconds
        while True:
            left = until - loop.time()
            if left <= 0:
                return  # the client comes back with the id that it has
            heartbeat = min(left, settings.stream_heartbeat_seconds)
            await asyncio.wait(either, timeout=heartbeat, return_when=asyncio.FIRST_COMPLETED)
            # The row is the net under the tail, as for every waiter.
            result = ended.result() if ended.done() else None
            if result is None and services.streams.stopping.done():
                return
            if result is None:
                result = await read_result(services, resource.request_id)
            if result is not None:
                resource.end(result)
                break
            yield KEEPALIVE_COMMENT
    yield _event(_ENDED, resource)


def _event(state: str, resource: Resource) -> bytes:
    data = msgspec.json.encode(resource).decode()
    return format_sse_event(event=state, data_str=data, id=state, retry=_RECONNECT_MS)
