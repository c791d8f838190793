"""The outbox: publish at once, delete on the delivery report, and a relay for what was not confirmed (promise 1)."""

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine, Sequence

import psycopg
import structlog
from confluent_kafka import KafkaError

from api.acceptor import Draft
from api.lasting_connection import LastingConnection
from api.problems import unavailable
from api.publisher import Outgoing, Publisher
from recstream.kafka.spans import sending
from recstream.messages.envelope import header
from recstream.messages.identifiers import request_id_key
from recstream.messages.topics import INFERENCE_REQUESTS, SYSTEM_CONTROL
from recstream.ops import metrics
from recstream.ops.traceparent import trace_id_of, valid_traceparent
from recstream.ops.tracing import Tracer

log = structlog.get_logger()

_DELETE_SECONDS = 0.1
_RELAY_SECONDS = 2.0
_RELAY_BATCH = 500
_LEASE_SECONDS = 30

# A lease, not a lock held while producing: a relay that dies leaves rows that another takes when it runs out.
_LEASE = """
    UPDATE outbox SET leased_until = now() + make_interval(secs => %(lease)s)
    WHERE id IN (
        SELECT id FROM outbox
        WHERE topic <> %(control)s AND created_at < now() - make_interval(secs => %(grace)s)
            AND (leased_until IS NULL OR leased_until < now())
        ORDER BY id
        LIMIT %(limit)s
        FOR UPDATE SKIP LOCKED
    )
    RETURNING id, topic, key, payload, headers
"""
_BACKLOG = """
    SELECT count(*), count(*) FILTER (WHERE topic = %s AND created_at < now() - make_interval(secs => %s)),
        coalesce(greatest(0, extract(epoch FROM now() - min(created_at))), 0)::float8
    FROM (SELECT topic, created_at FROM outbox LIMIT %s) AS oldest
"""
_DELETE = "DELETE FROM outbox WHERE id = ANY(%b)"


class Outbox:
    """Publishes accepted requests and keeps the table empty, on one connection of its own."""

    def __init__(
        self,
        conninfo: str,
        publisher: Publisher,
        publish_announcements: Callable[[], None],
        tracer: Tracer,
        *,
        grace_seconds: float,
        max_backlog: int,
    ) -> None:
        self._connection = LastingConnection(conninfo)
        self._publisher = publisher
        self._publish_announcements = publish_announcements
        self._tracer = tracer
        self._grace_seconds = grace_seconds
        self._max_backlog = max_backlog
        self._delivered: list[int] = []
        self._lock = threading.Lock()
        self._in_flight = 0
        self._backlog = 0
        self._tasks: list[asyncio.Task[None]] = []
        self._database = asyncio.Lock()

    @property
    def has_room(self) -> bool:
        """Whether another request may be accepted."""
        return max(self._backlog, self._in_flight) < self._max_backlog

    def check_room(self) -> None:
        """Raise Problem (503) where the backlog is full: a 202 must be a promise that can be kept."""
        if not self.has_room:
            raise unavailable("Kafka is not taking requests and the backlog is full.", retry_after_seconds=5)

    def publish(self, draft: Draft, outbox_id: int) -> None:
        """Produce an accepted request now; what fails is the relay's."""
        record = Outgoing(INFERENCE_REQUESTS.name, request_id_key(draft.request_id), draft.body, draft.headers)
        self._send(record, outbox_id)

    def start(self) -> None:
        """Start deleting and relaying."""
        metrics.OUTBOX_LIMIT.set(self._max_backlog)
        self._tasks = [
            asyncio.create_task(self._delete_forever(), name="outbox-delete"),
            asyncio.create_task(self._relay_forever(), name="outbox-relay"),
        ]

    async def close(self) -> None:
        """Stop; delete what the publisher's last reports confirmed. Close the publisher first."""
        for task in self._tasks:
            task.cancel()
        for task in self._tasks:
            with contextlib.suppress(asyncio.CancelledError):
                await task
        try:
            await self._delete_delivered()
        except psycopg.Error as error:
            log.warning("outbox.delete.failed", error=str(error))  # the next start's relay publishes once more
        await self._connection.close()

    def _send(self, record: Outgoing, outbox_id: int) -> None:
        # The headers are as they were committed: they name the span of the request's creation, not this one.
        creation = valid_traceparent(header(record.headers, "traceparent"))
        span = sending(self._tracer, record.topic, creation, kind="client")

        def on_delivery(error: KafkaError | None) -> None:
            span.end(error.name() if error is not None else None)
            with self._lock:
                self._in_flight -= 1
                if error is None:
                    self._delivered.append(outbox_id)
            if error is not None:
                log.warning(
                    "outbox.not_delivered",
                    outbox_id=outbox_id,
                    request_id=record.key.decode(),
                    trace_id=trace_id_of(creation),
                    error=error.str(),
                )

        with self._lock:
            self._in_flight += 1
        try:
            self._publisher.send(record, on_delivery)
        except BufferError:
            span.end("queue_full")
            with self._lock:
                self._in_flight -= 1

    async def _delete_forever(self) -> None:
        while True:
            await asyncio.sleep(_DELETE_SECONDS)
            await self._guarded(self._delete_delivered())

    async def _relay_forever(self) -> None:
        while True:
            await self._guarded(self._relay())
            await asyncio.sleep(_RELAY_SECONDS)

    async def _guarded(self, step: Coroutine[None, None, None]) -> None:
        try:
            await step
        except psycopg.Error as error:
            log.warning("outbox.database", error=str(error))
            await self._connection.close()

    async def _delete_delivered(self) -> None:
        with self._lock:
            delivered, self._delivered = self._delivered, []
        if not delivered:
            return
        try:
            async with self._database:
                await (await self._connection.get()).execute(_DELETE, (delivered,))
        except psycopg.Error:
            with self._lock:
                self._delivered.extend(delivered)
            raise

    async def _relay(self) -> None:
        async with self._database:
            connection = await self._connection.get()
            cursor = await connection.execute(_BACKLOG, (SYSTEM_CONTROL.name, self._grace_seconds, self._max_backlog))
            backlog = await cursor.fetchone()
            assert backlog is not None
            self._backlog, announcements, oldest_seconds = backlog
            metrics.OUTBOX_BACKLOG.set(self._backlog)
            metrics.OUTBOX_OLDEST.set(oldest_seconds)
            if not self._backlog:
                return
            cursor = await connection.execute(
                _LEASE,
                {
                    "control": SYSTEM_CONTROL.name,
                    "lease": _LEASE_SECONDS,
                    "grace": self._grace_seconds,
                    "limit": _RELAY_BATCH,
                },
            )
            rows: Sequence[tuple[int, str, bytes, bytes, dict[str, str]]] = await cursor.fetchall()
        for outbox_id, topic, key, payload, headers in rows:
            encoded = [(name, text.encode()) for name, text in headers.items()]
            self._send(Outgoing(topic, key, payload, encoded), outbox_id)
        if announcements:
            # Their order matters, so they have a lock and a publisher of their own.
            await asyncio.to_thread(self._publish_announcements)
        if rows or announcements:
            metrics.OUTBOX_RELAYED.inc(len(rows) + announcements)
            log.info("outbox.relayed", requests=len(rows), announcements=announcements)
