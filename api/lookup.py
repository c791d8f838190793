"""A request as the API shows it, from its row and from what has passed on the results topic."""

import asyncio
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from sqlalchemy import cast, select
from sqlalchemy.dialects.postgresql import TEXT

from api.result_feed import EndedResult
from api.schemas import RequestStatus
from api.services import ApiServices
from recstream.db.tables import predictions
from recstream.messages.inference import ResultError, Status

_ROW_POLL_SECONDS = 1.0
"""The net under the tail: how often a waiter looks at the row itself."""


class Resource(msgspec.Struct):
    """A request as the API shows it; the result's JSON is passed through as it was written."""

    request_id: UUID
    status: RequestStatus
    user_id: str | None
    created_at: datetime
    completed_at: datetime | None = None
    result: msgspec.Raw | None = None
    error: ResultError | None = None

    def end(self, ended: EndedResult) -> None:
        """Take over how the request ended."""
        self.status = RequestStatus[ended.status.name]
        self.completed_at = ended.completed_at
        self.result = msgspec.Raw(ended.body)
        self.error = ended.error


_ROW = select(
    predictions.c.status,
    predictions.c.user_id,
    predictions.c.created_at,
    predictions.c.completed_at,
    cast(predictions.c.result_json, TEXT).label("result"),
)


async def _row(services: ApiServices, request_id: UUID) -> Any:
    async with services.engine.connect() as connection:
        return (await connection.execute(_ROW.where(predictions.c.request_id == request_id))).one_or_none()


async def read_result(services: ApiServices, request_id: UUID) -> EndedResult | None:
    """Return how the row says that the request ended; None while it is open, and for an unknown id."""
    row = await _row(services, request_id)
    return _ended(row) if row is not None else None


async def read_request(services: ApiServices, request_id: UUID) -> Resource | None:
    """Return a request; None for an unknown id."""
    row = await _row(services, request_id)
    if row is None:
        return None
    resource = Resource(request_id, RequestStatus.PENDING, row.user_id, row.created_at)
    # The tail may know more than an open row: a GET never says PENDING after a waited 200. Once the row has ended it is
    # the one to believe: the tail may have begun behind the record that ended it.
    ended = _ended(row) or services.results.get(request_id)
    if ended is not None:
        resource.end(ended)
    return resource


async def wait_for(
    services: ApiServices, request_id: UUID, ended: "asyncio.Future[EndedResult]", seconds: int
) -> EndedResult | None:
    """Wait for the tail to bring the result; the row is looked at now and then, should the tail be away."""
    loop = asyncio.get_running_loop()
    deadline = loop.time() + seconds
    while (left := deadline - loop.time()) > 0:
        done, _ = await asyncio.wait({ended}, timeout=min(left, _ROW_POLL_SECONDS))
        if done:
            return ended.result()
        if (result := await read_result(services, request_id)) is not None:
            return result
    return None


class _StoredResult(msgspec.Struct):
    model_version: str | None = None
    error: ResultError | None = None


def _ended(row: Any) -> EndedResult | None:
    if row.status == RequestStatus.PENDING:
        return None
    body = row.result.encode()
    stored = msgspec.json.decode(body, type=_StoredResult)
    return EndedResult(Status[row.status], stored.error, stored.model_version, body, row.completed_at)
