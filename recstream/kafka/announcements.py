"""Telling every worker which model to serve (promise 5).

Allocating the generation, making the model live and queueing the announcement are one transaction, so a crash cannot
lose one: `publish_pending` (the api's relay) delivers what the announcer could not. One advisory lock is held from the
allocation to the delivery, so generations reach the topic in order: compaction keeps the last record of the key, and
that must be the newest.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import psycopg
import structlog
from confluent_kafka import KafkaException
from psycopg.types.json import Jsonb

from recstream.db.advisory_locks import ANNOUNCEMENT
from recstream.kafka.producer import ConfirmingProducer
from recstream.kafka.settings import KafkaSettings
from recstream.messages.codec import encode
from recstream.messages.control import AnnouncementReason, ModelAnnounced
from recstream.messages.envelope import event_headers
from recstream.messages.topics import CONTROL_KEY, SYSTEM_CONTROL
from recstream.ops.clock import utc_now

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A bundle as `ml_models` knows it. `metrics` values are finite."""

    version: str
    kind: str
    folder: str
    manifest_sha256: str
    created_at: datetime
    metrics: Mapping[str, float]


class UnknownModel(LookupError):
    """No model of that version is recorded."""


class ModelPruned(RuntimeError):
    """The model's files were removed to make room; the text is its version."""


def announce_model(
    connection: psycopg.Connection,
    kafka: KafkaSettings,
    model: ModelRecord,
    *,
    reason: AnnouncementReason,
    service: str,
    decision: Mapping[str, Any] | None = None,
) -> ModelAnnounced:
    """Record `model`, make it live and announce it; return the announcement.

    The transaction is the announcement: when Kafka is away this still succeeds, and the api's relay delivers it.
    `connection` must have no transaction open.
    """
    with _announcing(connection):
        with connection.transaction():
            _record(connection, model, "candidate", decision)
            announced = _make_live(connection, model.version, reason, service)
        _publish_newest(connection, kafka)
    return announced


def record_refused(connection: psycopg.Connection, model: ModelRecord, decision: Mapping[str, Any]) -> None:
    """Record `model` as refused: it stays on disk, and may be promoted by hand, but nobody is told of it."""
    with connection.transaction():
        _record(connection, model, "refused", decision)


def announce_recorded(
    connection: psycopg.Connection, kafka: KafkaSettings, version: str, *, reason: AnnouncementReason, service: str
) -> ModelAnnounced:
    """Make a model that is already recorded live again (rollback or promotion) and announce it.

    `connection` must have no transaction open.

    Raises:
        UnknownModel: no such version.
        ModelPruned: its files were removed.
    """
    with _announcing(connection):
        with connection.transaction():
            announced = _make_live(connection, version, reason, service)
        _publish_newest(connection, kafka)
    return announced


def publish_pending(connection: psycopg.Connection, kafka: KafkaSettings) -> None:
    """Deliver the newest announcement where its announcer could not; harmless when there is none.

    `connection` must have no transaction open.
    """
    with _announcing(connection):
        _publish_newest(connection, kafka)


def _record(
    connection: psycopg.Connection, model: ModelRecord, status: str, decision: Mapping[str, Any] | None
) -> None:
    connection.execute(
        """
        INSERT INTO ml_models (version, kind, folder, manifest_sha256, metrics, status, decision, created_at)
        VALUES (%s, %s, %s, %s, %s, %s, %s, %s)
        ON CONFLICT (version) DO NOTHING
        """,
        (
            model.version,
            model.kind,
            model.folder,
            model.manifest_sha256,
            Jsonb(dict(model.metrics)),
            status,
            Jsonb(dict(decision)) if decision is not None else None,
            model.created_at,
        ),
    )


@contextmanager
def _announcing(connection: psycopg.Connection) -> Iterator[None]:
    """Hold the lock of all announcers; a session lock, because it must outlive the transaction."""
    with connection.transaction():
        connection.execute("SELECT pg_advisory_lock(%s)", (ANNOUNCEMENT,))
    try:
        yield
    finally:
        if not connection.closed:
            with connection.transaction():
                connection.execute("SELECT pg_advisory_unlock(%s)", (ANNOUNCEMENT,))


def _make_live(
    connection: psycopg.Connection, version: str, reason: AnnouncementReason, service: str
) -> ModelAnnounced:
    row = connection.execute(
        # Locked, so that its files are not removed in between.
        "SELECT folder, manifest_sha256, metrics, status FROM ml_models WHERE version = %s FOR UPDATE",
        (version,),
    ).fetchone()
    if row is None:
        raise UnknownModel(version)
    folder, manifest_sha256, metrics, status = row
    if status == "pruned":
        raise ModelPruned(version)
    retired = connection.execute(
        "UPDATE ml_models SET status = 'retired' WHERE status = 'live' RETURNING version, manifest_sha256"
    ).fetchone()
    # Announcing the live model once more must not make it its own fallback.
    fallback = retired if retired is not None and retired[0] != version else (None, None)
    position = connection.execute("SELECT epoch, nextval('model_generation') FROM installation").fetchone()
    assert position is not None
    epoch, generation = position
    now = utc_now()
    connection.execute(
        "UPDATE ml_models SET status = 'live', generation = %s, promoted_at = %s WHERE version = %s",
        (generation, now, version),
    )
    announced = ModelAnnounced(
        epoch=epoch,
        generation=generation,
        model_version=version,
        folder=folder,
        manifest_sha256=manifest_sha256,
        reason=reason,
        announced_at=now,
        fallback_version=fallback[0],
        fallback_manifest_sha256=fallback[1],
        metrics=metrics,
    )
    headers = {name: value.decode() for name, value in event_headers(ModelAnnounced, service)}
    connection.execute(
        "INSERT INTO outbox (topic, key, payload, headers) VALUES (%s, %s, %s, %s)",
        (SYSTEM_CONTROL.name, CONTROL_KEY, encode(announced), Jsonb(headers)),
    )
    return announced


def _publish_newest(connection: psycopg.Connection, kafka: KafkaSettings) -> None:
    """Produce the newest announcement in the outbox; older ones it outdates. Needs the lock."""
    with connection.transaction():
        newest = connection.execute(
            "SELECT id, key, payload, headers FROM outbox WHERE topic = %s ORDER BY id DESC LIMIT 1",
            (SYSTEM_CONTROL.name,),
        ).fetchone()
    if newest is None:
        return
    outbox_id, key, payload, headers = newest
    producer = ConfirmingProducer(kafka.producer("announcer", delivery_timeout_ms=5_000))
    producer.produce(SYSTEM_CONTROL.name, key, payload, [(name, text.encode()) for name, text in headers.items()])
    try:
        producer.flush()
    except KafkaException as error:
        log.warning("model.announcement.left_to_relay", error=str(error))
        return
    with connection.transaction():
        connection.execute("DELETE FROM outbox WHERE topic = %s AND id <= %s", (SYSTEM_CONTROL.name, outbox_id))
