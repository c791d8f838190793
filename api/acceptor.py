"""Accepting requests: the row and its outbox entry in one transaction (promise 1), many requests to a commit.

Group commit: whatever arrived while the last commit ran shares the next one. There is no timer, so a lone request
waits for nobody, and under load the batches grow by themselves (docs/adr/0004).
"""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

import msgspec
import psycopg
import structlog

from api.lasting_connection import LastingConnection
from api.problems import Problem, unavailable
from recstream.messages.envelope import Headers
from recstream.messages.topics import INFERENCE_REQUESTS

log = structlog.get_logger()

_MAX_BATCH = 500
_MAX_WAITING = 5_000
"""Requests waiting for a commit; beyond it the database is too slow for what comes in."""

TENANT = "default"
"""Every request's tenant until there are accounts."""

# One statement, so one round trip and one commit. A key that is held by a live entry claims nothing, and its request
# is neither stored nor queued.
_ACCEPT = """
    WITH offered AS (
        SELECT * FROM unnest(
            %(ids)b::uuid[], %(users)b::text[], %(bodies)b::text[], %(headers)b::text[], %(times)b::timestamptz[],
            %(lifetimes)b::float8[], %(keys)b::text[], %(hashes)b::bytea[]
        ) AS offered (request_id, user_id, body, headers, created_at, lifetime, key, body_hash)
    ), claimed AS (
        INSERT INTO idempotency_keys AS held (tenant, key, body_hash, request_id, expires_at)
        SELECT %(tenant)s, key, body_hash, request_id, now() + make_interval(secs => %(ttl)s)
        FROM offered WHERE key IS NOT NULL
        ON CONFLICT (tenant, key) DO UPDATE
        SET body_hash = excluded.body_hash, request_id = excluded.request_id, expires_at = excluded.expires_at
        WHERE held.expires_at < now()
        RETURNING request_id
    ), accepted AS (
        INSERT INTO predictions (request_id, tenant, user_id, status, request_json, created_at, expires_at)
        SELECT request_id, %(tenant)s, user_id, 'PENDING', body::jsonb, created_at,
            now() + make_interval(secs => lifetime)
        FROM offered WHERE key IS NULL OR request_id IN (SELECT request_id FROM claimed)
        RETURNING request_id
    ), queued AS (
        INSERT INTO outbox (topic, key, payload, headers)
        SELECT %(topic)s, convert_to(request_id::text, 'UTF8'), convert_to(body, 'UTF8'), headers::jsonb
        FROM offered WHERE request_id IN (SELECT request_id FROM accepted)
        RETURNING id, key
    )
    SELECT convert_from(key, 'UTF8')::uuid, id FROM queued
"""
_HELD = "SELECT key, body_hash, request_id FROM idempotency_keys WHERE tenant = %s AND key = ANY(%s)"


@dataclass(frozen=True, slots=True)
class IdempotencyKey:
    """The caller's key and the hash of what it came with."""

    key: str
    body_hash: bytes


@dataclass(frozen=True, slots=True)
class Draft:
    """A request that wants to be accepted.

    `body` is its message as JSON. After `lifetime_seconds`, by the database's clock, it is ended if nothing else has.
    """

    request_id: UUID
    user_id: str | None
    body: bytes
    headers: Headers
    created_at: datetime
    lifetime_seconds: float
    idempotency: IdempotencyKey | None


@dataclass(frozen=True, slots=True)
class Accepted:
    """What a draft became: itself (`outbox_id` is set), or an earlier request of the same key."""

    request_id: UUID
    outbox_id: int | None


@dataclass(slots=True)
class _Waiting:
    draft: Draft
    accepted: asyncio.Future[Accepted]


class Acceptor:
    """Takes drafts one by one and commits them together, on one connection."""

    def __init__(self, conninfo: str, ttl_seconds: int, on_accepted: Callable[[Draft, int], None]) -> None:
        self._connection = LastingConnection(conninfo)
        self._ttl_seconds = ttl_seconds
        self._on_accepted = on_accepted
        self._waiting: asyncio.Queue[_Waiting] = asyncio.Queue(_MAX_WAITING)
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start committing."""
        self._task = asyncio.create_task(self._run(), name="acceptor")

    async def close(self) -> None:
        """Stop; drafts still waiting are refused as unavailable."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        while not self._waiting.empty():
            _refuse([self._waiting.get_nowait()], unavailable("The service is stopping."))
        await self._connection.close()

    async def accept(self, draft: Draft) -> Accepted:
        """Return when the request is committed.

        Raises:
            Problem: 503 where PostgreSQL cannot be reached, 422 where the key came with another body before.
        """
        waiting = _Waiting(draft, asyncio.get_running_loop().create_future())
        try:
            self._waiting.put_nowait(waiting)
        except asyncio.QueueFull:
            raise unavailable("Too many requests wait to be stored.") from None
        return await waiting.accepted

    async def _run(self) -> None:
        while True:
            batch = [await self._waiting.get()]
            while len(batch) < _MAX_BATCH and not self._waiting.empty():
                batch.append(self._waiting.get_nowait())
            try:
                await self._commit(batch)
            except asyncio.CancelledError:
                _refuse(batch, unavailable("The service is stopping."))
                raise
            except (psycopg.OperationalError, psycopg.InterfaceError) as error:
                log.warning("accept.failed", error=str(error), requests=len(batch))
                await self._connection.close()
                _refuse(batch, unavailable("The database cannot be reached."))
            except Exception as error:
                # One bad batch must not end the task that all requests depend on.
                log.exception("accept.failed", requests=len(batch))
                await self._connection.close()
                _refuse(batch, error)

    async def _commit(self, batch: Sequence[_Waiting]) -> None:
        # A key can be claimed once a statement; its other requests of this batch find it held, like any later one.
        holders: set[str] = set()
        offered = []
        for waiting in batch:
            idempotency = waiting.draft.idempotency
            if idempotency is not None:
                if idempotency.key in holders:
                    continue
                holders.add(idempotency.key)
            offered.append(waiting.draft)
        connection = await self._connection.get()
        cursor = await connection.execute(
            _ACCEPT,
            {
                "ids": [draft.request_id for draft in offered],
                "users": [draft.user_id for draft in offered],
                "bodies": [draft.body.decode() for draft in offered],
                "headers": [_headers_json(draft.headers) for draft in offered],
                "times": [draft.created_at for draft in offered],
                "lifetimes": [draft.lifetime_seconds for draft in offered],
                "keys": [draft.idempotency.key if draft.idempotency else None for draft in offered],
                "hashes": [draft.idempotency.body_hash if draft.idempotency else None for draft in offered],
                "tenant": TENANT,
                "ttl": self._ttl_seconds,
                "topic": INFERENCE_REQUESTS.name,
            },
        )
        queued: dict[UUID, int] = dict(await cursor.fetchall())
        held: dict[str, tuple[bytes, UUID]] = {}
        if holders:
            cursor = await connection.execute(_HELD, (TENANT, list(holders)))
            held = {key: (bytes(body_hash), request_id) for key, body_hash, request_id in await cursor.fetchall()}
        for waiting in batch:
            draft = waiting.draft
            if draft.request_id in queued:
                outbox_id = queued[draft.request_id]
                # Published even where the caller has gone: it is accepted.
                self._on_accepted(draft, outbox_id)
                _settle(waiting, Accepted(draft.request_id, outbox_id))
            else:
                assert draft.idempotency is not None
                _settle(waiting, _earlier(draft.idempotency, held.get(draft.idempotency.key)))


def _earlier(idempotency: IdempotencyKey, held: tuple[bytes, UUID] | None) -> Accepted | Problem:
    if held is None:
        return unavailable("The Idempotency-Key expired in this moment; send the request again.")
    body_hash, request_id = held
    if body_hash != idempotency.body_hash:
        return Problem(422, "idempotency-key-reused", "This Idempotency-Key came with another body before.")
    return Accepted(request_id, None)


def _settle(waiting: _Waiting, outcome: Accepted | Exception) -> None:
    if waiting.accepted.done():
        return  # the caller has gone
    if isinstance(outcome, Accepted):
        waiting.accepted.set_result(outcome)
    else:
        waiting.accepted.set_exception(outcome)


def _refuse(batch: Sequence[_Waiting], error: Exception) -> None:
    for waiting in batch:
        _settle(waiting, error)


def _headers_json(headers: Headers) -> str:
    return msgspec.json.encode({name: value.decode() for name, value in headers}).decode()
