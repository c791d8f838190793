"""The seeder as it is started: a process beside a real PostgreSQL and Kafka."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psycopg
import pytest
from confluent_kafka import Consumer, TopicPartition

from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings
from recstream.kafka.settings import KafkaSettings
from recstream.messages.codec import decode
from recstream.messages.control import AnnouncementReason, ModelAnnounced
from recstream.messages.topics import SYSTEM_CONTROL
from recstream.model.bundle import open_bundle

pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).resolve().parents[2]


class Seeder:
    """Starts the program against one database, in a folder of its own."""

    def __init__(self, database: PostgresSettings, kafka: KafkaSettings, folder: Path) -> None:
        self.database = database
        self.folder = folder
        self.checkpoints = folder / "checkpoints"
        self.environ = os.environ | {
            "PYTHONPATH": str(CHECKOUT),
            "POSTGRES_PORT": str(database.port),
            "POSTGRES_DB": database.db,
            "POSTGRES_PASSWORD": database.password.get_secret_value(),
            "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
            "CHECKPOINTS_DIR": str(self.checkpoints),
        }

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "seeder", *arguments], env=self.environ, cwd=self.folder, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip

    def run(self, *arguments: str) -> tuple[int, str, str]:
        process = self.start(*arguments)
        out, err = process.communicate(timeout=120)
        return process.returncode, out, err

    def query(self, statement: str) -> list[tuple[object, ...]]:
        with connect(self.database, "tests") as connection:
            return connection.execute(statement).fetchall()

    def models(self) -> list[tuple[object, ...]]:
        return self.query("SELECT version, kind, status FROM ml_models ORDER BY generation")


@pytest.fixture
def seeder(database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path) -> Seeder:
    return Seeder(database, kafka, tmp_path)


@pytest.fixture
def events(tmp_path: Path) -> Path:
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id,timestamp\nanna,1,1600000000\nanna,2,1600000001\nbob,2,1600000002\n")
    return path


def last_announcement(kafka: KafkaSettings) -> ModelAnnounced:
    consumer = Consumer(kafka.consumer("tests", "unused"))
    try:
        partition = TopicPartition(SYSTEM_CONTROL.name, 0)
        _, high = consumer.get_watermark_offsets(partition, timeout=10)
        consumer.assign([TopicPartition(SYSTEM_CONTROL.name, 0, high - 1)])
        record = consumer.poll(10)
        assert record is not None
        value = record.value()
        assert value is not None
        return decode(value, ModelAnnounced)
    finally:
        consumer.close()


def test_the_first_run_fills_the_database_and_announces_what_is_popular(seeder: Seeder, kafka: KafkaSettings) -> None:
    code, out, err = seeder.run()
    assert code == 0, err
    assert seeder.query("SELECT count(*), min(user_id) FROM users") == [(100, "user_1")]
    assert seeder.query("SELECT count(*) FROM items") == [(300,)]
    announced = last_announcement(kafka)
    assert seeder.models() == [(announced.model_version, "popularity", "live")]
    assert announced.model_version in out
    assert announced.reason is AnnouncementReason.SEEDED
    bundle = open_bundle(seeder.checkpoints, announced.folder, announced.manifest_sha256)
    [(most, times, all_positive)] = seeder.query(
        """
        SELECT item_id, count(*), (SELECT count(*) FROM interactions WHERE event_type <> 'dismiss')
        FROM interactions WHERE event_type <> 'dismiss' GROUP BY item_id ORDER BY count(*) DESC, item_id LIMIT 1
        """
    )
    [(top, score)] = bundle.popularity().top(1)
    assert top == most
    assert score == pytest.approx(int(str(times)) / int(str(all_positive)))
    assert (bundle.manifest.data.users, bundle.manifest.data.interactions) == (100, all_positive)


def test_a_second_run_does_nothing_and_says_so(seeder: Seeder) -> None:
    seeder.run("--users", "3")
    before = (seeder.models(), seeder.query("SELECT count(*), max(id) FROM interactions"))
    code, out, err = seeder.run()
    assert (code, out, err) == (0, "The database holds interactions already; nothing was added.\n", "")
    assert (seeder.models(), seeder.query("SELECT count(*), max(id) FROM interactions")) == before


def test_a_run_that_ended_before_the_announcement_is_completed_by_the_next(seeder: Seeder) -> None:
    seeder.run("--users", "3")
    with connect(seeder.database, "tests") as connection:
        connection.execute("DELETE FROM ml_models")
    assert seeder.run()[0] == 0
    assert [(kind, status) for _, kind, status in seeder.models()] == [("popularity", "live")]


def test_an_import_renews_the_popularity_until_a_model_is_trained(seeder: Seeder, events: Path) -> None:
    assert seeder.run("--source", "csv", str(events))[0] == 0
    assert len(seeder.models()) == 1
    assert seeder.run("--source", "csv", str(events))[0] == 0
    assert len(seeder.models()) == 1, "nothing new, no new model"
    with events.open("a") as file:
        file.write("bob,1,1600000003\n")
    assert seeder.run("--source", "csv", str(events))[0] == 0
    assert [status for _, _, status in seeder.models()] == ["retired", "live"]
    with connect(seeder.database, "tests") as connection:
        connection.execute("UPDATE ml_models SET kind = 'sasrec' WHERE status = 'live'")
    with events.open("a") as file:
        file.write("carl,1,1600000004\n")
    code, out, _ = seeder.run("--source", "csv", str(events))
    assert code == 0
    assert "trained model stays" in out
    assert len(seeder.models()) == 2


def test_a_replacement_retires_a_model_of_other_items(seeder: Seeder, events: Path) -> None:
    seeder.run("--users", "3")
    with connect(seeder.database, "tests") as connection:
        connection.execute("UPDATE ml_models SET kind = 'sasrec'")
    code, _, err = seeder.run("--source", "csv", str(events))
    assert code == 1
    assert "--replace" in err
    code, out, _ = seeder.run("--source", "csv", str(events), "--replace")
    assert code == 0
    assert "Removed" in out
    assert [(kind, status) for _, kind, status in seeder.models()] == [("sasrec", "retired"), ("popularity", "live")]
    assert seeder.query("SELECT DISTINCT user_id FROM interactions ORDER BY 1") == [("anna",), ("bob",)]


def test_rejected_lines_are_a_warning(seeder: Seeder, events: Path) -> None:
    with events.open("a") as file:
        file.write("carl,1\n")
    code, out, _ = seeder.run("--source", "csv", str(events))
    assert code == 0
    assert "Warning: 1 lines were not imported (1 not 3 columns)" in out
    side_file = seeder.folder / ".local" / "rejects" / "events.csv.rejected.tsv"
    assert side_file.read_text().splitlines()[1] == "5\tnot 3 columns\tcarl,1"


def test_postgres_that_is_not_there_is_a_sentence(seeder: Seeder) -> None:
    seeder.environ["POSTGRES_PORT"] = "1"
    code, _, err = seeder.run()
    assert code == 1
    assert err.startswith("PostgreSQL at 127.0.0.1:1 cannot be reached")
    assert err.count("\n") == 1


def test_tables_that_are_not_there_are_a_sentence(seeder: Seeder) -> None:
    with connect(seeder.database, "tests") as connection:
        connection.execute("ALTER TABLE data_sources RENAME TO gone")
    code, _, err = seeder.run()
    assert code == 1
    assert "admin migrate" in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_leaves_nothing_half_imported(seeder: Seeder, events: Path, number: signal.Signals, code: int) -> None:
    with connect(seeder.database, "tests") as blocker:
        # The last statement of the transaction waits for this, so that the signal comes when all rows are written.
        blocker.execute("INSERT INTO data_sources VALUES ('csv', 'events.csv', 0, now())")
        process = seeder.start("--source", "csv", str(events))
        wait_until_it_waits(blocker, process)
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (code, "Interrupted. Nothing was imported.\n"), out
        blocker.rollback()
    for table in ("interactions", "users", "data_sources", "ml_models"):
        assert seeder.query(f"SELECT count(*) FROM {table}") == [(0,)]


def test_seeders_take_turns(seeder: Seeder, events: Path) -> None:
    with connect(seeder.database, "tests") as blocker:
        blocker.execute("INSERT INTO data_sources VALUES ('csv', 'events.csv', 0, now())")
        first = seeder.start("--source", "csv", str(events))
        wait_until_it_waits(blocker, first)
        second = seeder.start("--source", "csv", str(events))
        wait_until_it_waits(blocker, second, "advisory")
        blocker.rollback()
    out = [process.communicate(timeout=60)[0] for process in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0)
    assert "Waiting for another seeder" in out[1]
    assert seeder.query("SELECT count(*) FROM interactions") == [(3,)]
    assert len(seeder.models()) == 1


def wait_until_it_waits(
    connection: psycopg.Connection, process: subprocess.Popen[str], event: str = "transactionid"
) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        # Within a transaction the statistics would not change.
        connection.execute("SELECT pg_stat_clear_snapshot()")
        if connection.execute(
            """
            SELECT 1 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'recstream-seeder'
            AND wait_event_type = 'Lock' AND wait_event = %s
            """,
            (event,),
        ).fetchone():
            return
        assert process.poll() is None, process.communicate()
        time.sleep(0.02)
    raise AssertionError("the seeder never waited")
