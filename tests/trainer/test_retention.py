"""Which bundles stay on disk, on a real PostgreSQL."""

import os
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

import psycopg
import pytest

from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings
from recstream.kafka.announcements import ModelPruned, ModelRecord, announce_model, announce_recorded, record_refused
from recstream.kafka.settings import KafkaSettings
from recstream.messages.control import AnnouncementReason
from trainer.retention import prune_bundles
from trainer.unfinished import FOLDER

pytestmark = pytest.mark.integration

START = datetime(2026, 1, 1, tzinfo=UTC)


def bundle(checkpoints: Path, number: int, *, hours_old: float = 0) -> ModelRecord:
    version = f"sasrec-20260101T0000{number:02}Z-0000000{number}"
    (checkpoints / version).mkdir()
    (checkpoints / version / "manifest.json").write_text("{}")
    then = time.time() - hours_old * 3600
    os.utime(checkpoints / version, (then, then))
    return ModelRecord(version, "sasrec", version, "0" * 64, START + timedelta(seconds=number), {})


def statuses(connection: psycopg.Connection) -> dict[str, str]:
    return dict(connection.execute("SELECT version, status FROM ml_models").fetchall())


def test_the_newest_stay_and_so_do_the_live_one_and_its_fallback(
    database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path
) -> None:
    with connect(database, "tests") as connection:
        connection.autocommit = True
        models = [bundle(tmp_path, number) for number in range(6)]
        for record in models[:4]:
            announce_model(connection, kafka, record, reason=AnnouncementReason.TRAINED, service="tests")
        record_refused(connection, models[4], {"verdict": "worse"})
        record_refused(connection, models[5], {"verdict": "worse"})
        # Back to the second: it is live, and the fourth is what workers fall back to.
        announce_recorded(connection, kafka, models[1].version, reason=AnnouncementReason.ROLLBACK, service="tests")
        assert sorted(prune_bundles(connection, tmp_path, keep=1)) == [models[at].folder for at in (0, 2, 4)]
        found = statuses(connection)
        assert [found[record.version] for record in models] == [
            "pruned",
            "live",
            "pruned",
            "retired",
            "pruned",
            "refused",
        ]
        assert sorted(path.name for path in tmp_path.iterdir()) == [models[at].folder for at in (1, 3, 5)]
        assert prune_bundles(connection, tmp_path, keep=1) == []
        with pytest.raises(ModelPruned):
            announce_recorded(connection, kafka, models[0].version, reason=AnnouncementReason.PROMOTED, service="tests")
        assert statuses(connection)[models[1].version] == "live"


def test_what_was_never_announced_goes_once_it_is_old_and_nothing_else_does(
    database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path
) -> None:
    with connect(database, "tests") as connection:
        connection.autocommit = True
        kept = bundle(tmp_path, 1, hours_old=500)
        announce_model(connection, kafka, kept, reason=AnnouncementReason.TRAINED, service="tests")
        orphan, fresh = bundle(tmp_path, 2, hours_old=2), bundle(tmp_path, 3)
        for name in (FOLDER, "notes", ".bundle-x.tmp"):
            (tmp_path / name).mkdir()
            os.utime(tmp_path / name, (0, 0))
        (tmp_path / "README.md").touch()
        assert prune_bundles(connection, tmp_path, keep=None) == [orphan.folder]
        assert {path.name for path in tmp_path.iterdir()} == {
            kept.folder,
            fresh.folder,
            FOLDER,
            "notes",
            ".bundle-x.tmp",
            "README.md",
        }
