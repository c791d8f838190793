"""The popularity bundle: it needs no training, so the pipeline answers as soon as there are interactions."""

from pathlib import Path

import psycopg

from recstream.kafka.announcements import ModelRecord, announce_model
from recstream.kafka.settings import KafkaSettings
from recstream.messages.activity import EventType
from recstream.messages.control import AnnouncementReason
from recstream.model.bundle import write_bundle
from recstream.model.manifest import POPULARITY, DataWindow
from recstream.model.popularity import Popularity
from recstream.ops.clock import utc_now


def live_kind(connection: psycopg.Connection) -> str | None:
    """Return the kind of the model that is live, or None where none is."""
    with connection.transaction():
        row = connection.execute("SELECT kind FROM ml_models WHERE status = 'live'").fetchone()
    return None if row is None else str(row[0])


def publish_popularity(connection: psycopg.Connection, kafka: KafkaSettings, checkpoints: Path) -> str | None:
    """Count what is popular, write the bundle and announce it; return its version, or None without interactions.

    An item's score is its share of all interactions but dismissals. When Kafka is away the announcement waits in the
    outbox. Raises OSError where the bundle cannot be written.
    """
    popularity, data = _count(connection)
    if len(popularity) == 0:
        return None
    bundle = write_bundle(
        checkpoints,
        kind="popularity",
        created_at=utc_now(),
        data=data,
        parent=None,
        files={POPULARITY: popularity.to_json()},
    )
    record = ModelRecord(
        bundle.version, bundle.kind, bundle.folder, bundle.manifest_sha256, bundle.created_at, metrics={}
    )
    announce_model(connection, kafka, record, reason=AnnouncementReason.SEEDED, service="seeder")
    return bundle.version


def _count(connection: psycopg.Connection) -> tuple[Popularity, DataWindow]:
    dismissal = EventType.DISMISS.value
    with connection.transaction():
        # One snapshot for both queries.
        connection.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
        counts = connection.execute(
            """
            SELECT item_id, count(*) FROM interactions WHERE event_type <> %s
            GROUP BY item_id ORDER BY count(*) DESC, item_id
            """,
            (dismissal,),
        ).fetchall()
        window = connection.execute(
            """
            SELECT min(first_at), max(last_at), coalesce(sum(interactions), 0)::int8, count(*) FROM (
                SELECT min(created_at) AS first_at, max(created_at) AS last_at, count(*) AS interactions
                FROM interactions WHERE event_type <> %s GROUP BY user_id
            ) AS by_user
            """,
            (dismissal,),
        ).fetchone()
    assert window is not None
    first_at, last_at, interactions, users = window
    popularity = Popularity([item for item, _ in counts], [count / interactions for _, count in counts])
    return popularity, DataWindow(
        first_at=first_at, last_at=last_at, interactions=interactions, users=users, items=len(counts)
    )
