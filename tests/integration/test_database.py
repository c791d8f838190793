"""Migrations, partitions and the announcement's transaction, on the real PostgreSQL."""

import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta

import psycopg
import pytest
from alembic.autogenerate import compare_metadata
from alembic.migration import MigrationContext

from recstream.db.engine import connect, make_engine
from recstream.db.migrations import NewerDatabase, upgrade
from recstream.db.partitions import ensure_partitions
from recstream.db.settings import PostgresSettings
from recstream.db.tables import metadata
from recstream.kafka.announcements import (
    ModelRecord,
    UnknownModel,
    announce_model,
    announce_recorded,
    publish_pending,
)
from recstream.kafka.settings import KafkaSettings
from recstream.kafka.tail import Start, Tail
from recstream.messages.codec import decode
from recstream.messages.control import AnnouncementReason, ModelAnnounced
from recstream.messages.identifiers import new_request_id
from recstream.messages.topics import SYSTEM_CONTROL
from tests.waiting import eventually

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 21, tzinfo=UTC)
NOWHERE = KafkaSettings(bootstrap_servers="127.0.0.1:1")


def _record(version: str) -> ModelRecord:
    return ModelRecord(version, "sasrec", version, "0" * 64, NOW, {"ndcg@10": 0.1})


def _row(connection: psycopg.Connection, query: str) -> tuple[object, ...]:
    row = connection.execute(query.encode()).fetchone()
    assert row is not None
    return row


def test_migrations_make_what_the_tables_declare(database: PostgresSettings) -> None:
    engine = make_engine(database, "tests")
    upgrade(engine)  # once more: harmless
    with engine.connect() as connection:
        context = MigrationContext.configure(
            connection, opts={"include_name": lambda name, _kind, _parents: not (name or "").startswith("predictions_")}
        )
        differences = compare_metadata(context, metadata)
    engine.dispose()
    assert differences == []


def test_an_older_release_leaves_a_newer_database_as_it_is(database: PostgresSettings) -> None:
    with connect(database, "tests") as connection:
        connection.execute("UPDATE alembic_version SET version_num = '9999'")
    engine = make_engine(database, "tests")
    with pytest.raises(NewerDatabase, match="9999"):
        upgrade(engine)
    engine.dispose()
    environ = os.environ | {
        "POSTGRES_PORT": str(database.port),
        "POSTGRES_DB": database.db,
        "POSTGRES_PASSWORD": database.password.get_secret_value(),
    }
    command = [sys.executable, "-m", "admin", "migrate"]
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "The database is of a newer release (revision 9999); it stays as it is.\n"


def test_a_request_lies_in_its_months_partition(database: PostgresSettings) -> None:
    with connect(database, "tests") as connection:
        connection.autocommit = True
        now = datetime.now(UTC)
        created = ensure_partitions(connection, now)
        assert len(created) == 3
        assert ensure_partitions(connection, now) == []
        connection.execute(
            "INSERT INTO predictions (request_id, status, request_json, created_at) VALUES (%s, 'PENDING', '{}', %s)",
            (new_request_id(), now),
        )
        assert _row(connection, "SELECT tableoid::regclass::text FROM predictions") == (f"predictions_{now:%Y%m}",)
        # Ids of other months have a place too.
        connection.execute(
            "INSERT INTO predictions (request_id, status, request_json, created_at) "
            "VALUES ('00000000-0000-7000-8000-000000000000', 'PENDING', '{}', %s)",
            (now - timedelta(days=20_000),),
        )
        assert _row(connection, "SELECT count(*) FROM predictions_default") == (1,)


def test_generations_rise_and_each_names_its_fallback(database: PostgresSettings, kafka: KafkaSettings) -> None:
    with connect(database, "tests") as connection:
        first = announce_model(connection, kafka, _record("m1"), reason=AnnouncementReason.TRAINED, service="t")
        second = announce_model(connection, kafka, _record("m2"), reason=AnnouncementReason.TRAINED, service="t")
        back = announce_recorded(connection, kafka, "m1", reason=AnnouncementReason.ROLLBACK, service="t")
        again = announce_recorded(connection, kafka, "m1", reason=AnnouncementReason.PROMOTED, service="t")
        assert [a.generation for a in (first, second, back, again)] == [1, 2, 3, 4]
        assert [a.fallback_version for a in (first, second, back, again)] == [None, "m1", "m2", None]
        assert first.epoch == again.epoch
        rows = connection.execute("SELECT version, status, generation FROM ml_models ORDER BY version").fetchall()
        assert rows == [("m1", "live", 4), ("m2", "retired", 2)]
        assert _row(connection, "SELECT count(*) FROM outbox") == (0,)
        with pytest.raises(UnknownModel):
            announce_recorded(connection, kafka, "m9", reason=AnnouncementReason.PROMOTED, service="t")


def test_an_announcement_survives_kafkas_absence(database: PostgresSettings, kafka: KafkaSettings) -> None:
    seen: list[ModelAnnounced] = []
    tail = Tail(
        kafka,
        "t",
        SYSTEM_CONTROL.name,
        Start.END,
        lambda records: seen.extend(decode(r.value(), ModelAnnounced) for r in records if r.value() is not None),
    )
    tail.start()
    try:
        assert tail.wait_ready(20)
        with connect(database, "tests") as connection:
            announce_model(connection, NOWHERE, _record("m1"), reason=AnnouncementReason.TRAINED, service="t")
            announce_model(connection, NOWHERE, _record("m2"), reason=AnnouncementReason.TRAINED, service="t")
            assert _row(connection, "SELECT count(*) FROM outbox") == (2,)
            connection.commit()
            publish_pending(connection, kafka)
            # The older one is outdated: after compaction the topic must end with the newest.
            assert _row(connection, "SELECT count(*) FROM outbox") == (0,)
        eventually(lambda: seen)
        assert [announced.model_version for announced in seen] == ["m2"]
    finally:
        tail.close()
