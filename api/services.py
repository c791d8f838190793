"""What the routes work with, made once and started and stopped together."""

import asyncio
import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from sqlalchemy.ext.asyncio import AsyncEngine

from api.acceptor import Acceptor
from api.outbox import Outbox
from api.publisher import Publisher
from api.result_feed import ResultFeed
from api.settings import ApiSettings
from api.streams import Streams
from api.worker_feed import WorkerFeed
from recstream.db.engine import connect, conninfo, make_async_engine
from recstream.db.settings import PostgresSettings
from recstream.kafka.announcements import announce_recorded, publish_pending
from recstream.kafka.queues import GroupSettings, QueueWatch
from recstream.kafka.redrive import RedriveSettings
from recstream.kafka.settings import KafkaSettings
from recstream.messages.control import AnnouncementReason, ModelAnnounced
from recstream.ops.tracing import Tracer

_DELIVERY_TIMEOUT_MS = 10_000
_FLUSH_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class ApiServices:
    """The API's parts."""

    settings: ApiSettings
    kafka: KafkaSettings
    postgres: PostgresSettings
    engine: AsyncEngine
    publisher: Publisher
    outbox: Outbox
    acceptor: Acceptor
    results: ResultFeed
    workers: WorkerFeed
    tracer: Tracer
    streams: Streams
    redrive: RedriveSettings
    queues: QueueWatch

    def promote(self, version: str) -> ModelAnnounced:
        """Make a recorded model live. Blocks. Raises UnknownModel and ModelPruned."""
        with connect(self.postgres, "api") as connection:
            connection.autocommit = True
            return announce_recorded(connection, self.kafka, version, reason=AnnouncementReason.PROMOTED, service="api")


def make_services(
    settings: ApiSettings,
    kafka: KafkaSettings,
    groups: GroupSettings,
    postgres: PostgresSettings,
    redrive: RedriveSettings,
    tracer: Tracer,
) -> ApiServices:
    """Make the parts; nothing connects yet."""
    # Every replica tails all results, so each needs a name of its own.
    client_id = f"api-{socket.gethostname()}-{settings.port}"
    database = conninfo(postgres, "api")
    publisher = Publisher(kafka.producer(client_id, delivery_timeout_ms=_DELIVERY_TIMEOUT_MS))

    def publish_announcements() -> None:
        with connect(postgres, "api") as connection:
            connection.autocommit = True
            publish_pending(connection, kafka)

    outbox = Outbox(
        database,
        publisher,
        publish_announcements,
        tracer,
        grace_seconds=settings.outbox_grace_seconds,
        max_backlog=settings.max_backlog,
    )
    return ApiServices(
        settings=settings,
        kafka=kafka,
        postgres=postgres,
        engine=make_async_engine(postgres, "api", settings.pool_size),
        publisher=publisher,
        outbox=outbox,
        acceptor=Acceptor(database, settings.idempotency_ttl_seconds, outbox.publish),
        results=ResultFeed(
            kafka,
            f"{client_id}-results",
            max_results=settings.cached_results,
            max_bytes=settings.cached_result_bytes,
        ),
        workers=WorkerFeed(kafka, f"{client_id}-workers"),
        tracer=tracer,
        streams=Streams(settings.max_streams),
        redrive=redrive,
        queues=QueueWatch(kafka, f"{client_id}-queues", groups.topics(), interval_seconds=settings.queue_watch_seconds),
    )


@asynccontextmanager
async def running(services: ApiServices) -> AsyncIterator[None]:
    """Start the parts; on leaving, stop taking first, then deliver and store what was taken."""
    services.publisher.start()
    services.results.start()
    services.workers.start()
    services.queues.start()
    services.outbox.start()
    services.acceptor.start()
    try:
        yield
    finally:
        await services.acceptor.close()
        await asyncio.to_thread(services.publisher.close, _FLUSH_SECONDS)
        await services.outbox.close()
        await services.results.close()
        await asyncio.to_thread(services.workers.close)
        await asyncio.to_thread(services.queues.close)
        await services.engine.dispose()


def _from_state(request: Request) -> ApiServices:
    services: ApiServices = request.app.state.services
    return services


Services = Annotated[ApiServices, Depends(_from_state)]
