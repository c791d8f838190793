"""The trainer as it is started: a process beside a real PostgreSQL and Kafka."""

import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import msgspec
import psycopg
import pytest
import safetensors
from confluent_kafka import Consumer, TopicPartition

from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings
from recstream.kafka.settings import KafkaSettings
from recstream.messages.codec import decode
from recstream.messages.control import AnnouncementReason, ModelAnnounced
from recstream.messages.topics import SYSTEM_CONTROL
from recstream.model.bundle import open_bundle
from recstream.model.drift import population_stability_index
from recstream.model.ranking import Query, SasrecRanker
from trainer.__main__ import REFUSED
from trainer.lock import only_training
from trainer.progress import Training
from trainer.report import REPORT
from trainer.unfinished import FOLDER

pytestmark = pytest.mark.integration

CHECKOUT = Path(__file__).resolve().parents[2]


def insert_circles(database: PostgresSettings, users: int, length: int) -> None:
    """Everybody goes round the same circle of 60 items, from different starts; one user comes along once."""
    with connect(database, "tests") as connection:
        connection.execute(
            """
            INSERT INTO interactions (event_id, user_id, item_id, created_at, event_type)
            SELECT gen_random_uuid(), 'user-' || u, 'item-' || (u + n) %% 60,
                   timestamptz '2026-01-01Z' + make_interval(mins => n), 'view'
            FROM generate_series(1, %s) AS u, generate_series(1, %s) AS n
            UNION ALL SELECT gen_random_uuid(), 'guest', 'item-0', timestamptz '2026-01-01Z', 'like'
            """,
            (users, length),
        )


def environment(database: PostgresSettings, kafka: KafkaSettings, checkpoints: Path) -> dict[str, str]:
    return os.environ | {
        "PYTHONPATH": str(CHECKOUT),
        "POSTGRES_PORT": str(database.port),
        "POSTGRES_DB": database.db,
        "POSTGRES_PASSWORD": database.password.get_secret_value(),
        "KAFKA_BOOTSTRAP_SERVERS": kafka.bootstrap_servers,
        "CHECKPOINTS_DIR": str(checkpoints),
        "TRAINER_D_MODEL": "16",
        "TRAINER_THREADS": "1",
    }


def start(environ: dict[str, str], *options: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-m", "trainer", *options],
        env=environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def finish(process: subprocess.Popen[str]) -> tuple[int, str, str]:
    output, errors = process.communicate(timeout=120)
    return process.returncode, output, errors


def models(database: PostgresSettings) -> list[tuple[str, str, dict[str, float]]]:
    with connect(database, "tests") as connection:
        return connection.execute("SELECT version, status, metrics FROM ml_models ORDER BY generation").fetchall()


def newest_announcement(kafka: KafkaSettings) -> ModelAnnounced:
    consumer = Consumer(kafka.consumer("tests", "unused"))
    partition = TopicPartition(SYSTEM_CONTROL.name, 0)
    _, high = consumer.get_watermark_offsets(partition, timeout=10)
    partition.offset = high - 1
    consumer.assign([partition])
    record = consumer.poll(10)
    consumer.close()
    assert record is not None
    value = record.value()
    assert value is not None
    return decode(value, ModelAnnounced)


def test_from_interactions_to_an_announced_model(
    database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path
) -> None:
    insert_circles(database, users=60, length=15)
    environ = environment(database, kafka, tmp_path)
    code, output, errors = finish(start(environ, "--epochs", "30", "--batch-tokens", "100"))
    assert code == 0, errors
    assert "Read 901 interactions of 61 users with 60 items (2026-01-01 to 2026-01-01)" in output
    ((version, status, metrics),) = models(database)
    assert status == "live"
    assert f"Announced {version}" in output
    assert metrics["ndcg@10"] > 0.9 > 2 * metrics["popularity_ndcg@10"]
    assert metrics.keys() == {
        "ndcg@10",
        "recall@10",
        "mrr@10",
        "popularity_ndcg@10",
        "popularity_recall@10",
        "epochs",
        "seconds",
    }

    announced = newest_announcement(kafka)
    assert (announced.model_version, announced.reason) == (version, AnnouncementReason.TRAINED)
    assert announced.metrics == metrics
    bundle = open_bundle(tmp_path, announced.folder, announced.manifest_sha256)
    assert bundle.manifest.data.interactions == 901
    assert bundle.manifest.parent is None
    ((most_popular, share),) = bundle.popularity().top(1)
    assert most_popular == "item-0"
    assert share == pytest.approx(16 / 901)
    ranker = SasrecRanker.load(bundle)
    (ranking,) = ranker.rank([Query([f"item-{n}" for n in range(13)], [], exclude_seen=True, k=3)])
    assert ranking.items[0][0] == "item-13"
    # What a worker will compare traffic with: 60 users with 15 items, the guest with one; scores as it will give them.
    reference = bundle.drift_reference()
    assert reference is not None
    assert reference.history_length.counts == [0, 1, 60, 0]
    histories = [[f"item-{(user + n) % 60}" for n in range(1, 16)] for user in range(1, 61)] + [["item-0"]]
    rankings = ranker.rank([Query(history, [], exclude_seen=True, k=1) for history in histories])
    served = Counter(reference.score.bin_of(ranking.items[0][1]) for ranking in rankings)
    served_counts = [served[number] for number in range(len(reference.score.counts))]
    assert population_stability_index(reference.score.counts, served_counts) < 0.05

    code, output, errors = finish(start(environ, "--first"))
    assert (code, output) == (0, f"{version} has been trained; nothing to do.\n"), errors
    assert len(models(database)) == 1

    code, output, errors = finish(start(environ, "--epochs", "1", "--seed", "2"))
    assert code == 0, errors
    (first, second) = models(database)
    assert (first[:2], second[1]) == ((version, "retired"), "live")
    newest = newest_announcement(kafka)
    assert newest.fallback_version == version
    assert open_bundle(tmp_path, newest.folder, newest.manifest_sha256).manifest.parent == version


def test_too_little_data_is_refused_before_torch_is_imported(
    database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path
) -> None:
    insert_circles(database, users=9, length=5)
    environ = environment(database, kafka, tmp_path) | {"PYTHONPROFILEIMPORTTIME": "1"}
    code, _, errors = finish(start(environ))
    assert code == 1
    sentences = [line for line in errors.splitlines() if not line.startswith("import time:")]
    assert len(sentences) == 1
    assert sentences[0].startswith("Too little to train on: 9 of 10 users have three interactions or more")
    assert not re.search(r"\| +torch$", errors, re.MULTILINE)
    assert models(database) == []
    assert list(tmp_path.iterdir()) == []


def test_a_second_training_is_refused(database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path) -> None:
    insert_circles(database, users=20, length=5)
    with connect(database, "tests") as connection, only_training(connection):
        code, _, errors = finish(start(environment(database, kafka, tmp_path)))
    assert (code, errors.count("\n")) == (1, 1)
    assert errors.startswith("Another training runs on this database")


@pytest.mark.parametrize(
    ("change", "options", "sentence"),
    [
        ({"POSTGRES_PORT": "1"}, [], "PostgreSQL cannot be used"),
        ({"POSTGRES_PASSWORD": "wrong"}, [], "PostgreSQL cannot be used"),
        ({"TRAINER_EPOCHS": "0"}, [], "The settings are unusable: epochs"),
        ({}, ["--dropout", "1.5"], "The settings are unusable: dropout"),
        ({}, ["--n-heads", "3"], "d_model (16) must be a multiple of n_heads (3)"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(
    database: PostgresSettings,
    kafka: KafkaSettings,
    tmp_path: Path,
    change: dict[str, str],
    options: list[str],
    sentence: str,
) -> None:
    insert_circles(database, users=20, length=5)
    code, _, errors = finish(start(environment(database, kafka, tmp_path) | change, *options))
    assert (code, errors.count("\n")) == (1, 1), errors
    assert errors.startswith(sentence)
    assert list(tmp_path.iterdir()) == []


def test_an_unmigrated_database_is_named(database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path) -> None:
    with connect(database, "tests") as connection:
        connection.execute("DROP TABLE interactions")
    code, _, errors = finish(start(environment(database, kafka, tmp_path)))
    assert (code, errors) == (1, "The database has no tables yet; run `python -m admin migrate` first.\n")


def wait_for(condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"{what} did not come about in {seconds} s"
        time.sleep(0.02)


def waits_for_a_lock(database: PostgresSettings) -> bool:
    with connect(database, "tests") as connection:
        row = connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'recstream-trainer' "
            "AND datname = current_database() AND wait_event_type = 'Lock'"
        ).fetchone()
    return row is not None and row[0] > 0


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_postgres_works_ends_it_at_once(
    database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    with connect(database, "tests") as blocker:
        blocker.execute("LOCK TABLE interactions IN ACCESS EXCLUSIVE MODE")
        process = start(environment(database, kafka, tmp_path))
        wait_for(lambda: waits_for_a_lock(database), "the wait for the table")
        process.send_signal(number)
        assert finish(process)[0] == code
        wait_for(lambda: not waits_for_a_lock(database), "the end of the trainer's statement")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_in_the_middle_of_training_leaves_nothing(
    database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path, number: signal.Signals, code: int
) -> None:
    insert_circles(database, users=60, length=15)
    process = start(environment(database, kafka, tmp_path), "--patience", "100000", "--epochs", "100000")
    assert process.stdout is not None
    for line in process.stdout:
        if line.startswith("  epoch"):
            break
    process.send_signal(number)
    returned, _, errors = finish(process)
    assert returned == code
    assert errors.startswith("Interrupted: the model that is live stays. The next training goes on")
    assert [path.name for path in tmp_path.iterdir()] == [FOLDER]
    assert models(database) == []
    # The lock is free again, and the next training goes on where this one was.
    code, output, errors = finish(start(environment(database, kafka, tmp_path), "--epochs", "1"))
    assert code == 0, errors
    assert "A training was interrupted; going on with it." in output
    assert FOLDER not in [path.name for path in tmp_path.iterdir()]


def test_without_kafka_the_announcement_waits_in_the_outbox(database: PostgresSettings, tmp_path: Path) -> None:
    insert_circles(database, users=20, length=5)
    nowhere = KafkaSettings(bootstrap_servers="127.0.0.1:1")
    code, output, errors = finish(start(environment(database, nowhere, tmp_path), "--epochs", "1"))
    assert code == 0, errors
    ((version, status, _),) = models(database)
    assert status == "live"
    assert f"Announced {version}" in output
    with connect(database, "tests") as connection:
        assert waiting_announcements(connection) == 1


def epochs_done(checkpoints: Path) -> int:
    """Return how many epochs of an unfinished training are kept."""
    try:
        with safetensors.safe_open(checkpoints / FOLDER / "progress.safetensors", "np") as progress:
            return len(msgspec.json.decode(progress.metadata()["training"], type=Training).epochs)
    except OSError:
        return 0


def weights(checkpoints: Path) -> bytes:
    (path,) = checkpoints.glob("sasrec-*/weights.safetensors")
    return path.read_bytes()


def test_a_killed_training_ends_like_an_unbroken_one(
    database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path
) -> None:
    insert_circles(database, users=60, length=15)
    options = ["--epochs", "80", "--patience", "80", "--dropout", "0.3", "--holdout-share", "0.1"]
    unbroken, killed = tmp_path / "unbroken", tmp_path / "killed"
    code, _, errors = finish(start(environment(database, kafka, unbroken), *options))
    assert code == 0, errors
    assert not (unbroken / FOLDER).exists()

    process = start(environment(database, kafka, killed), *options)
    wait_for(lambda: epochs_done(killed) >= 3, "the third epoch")
    process.kill()
    finish(process)
    done = epochs_done(killed)
    assert 3 <= done < 80
    assert not list(killed.glob("sasrec-*"))
    # What arrives meanwhile belongs to the next training, not to this one.
    insert_circles(database, users=5, length=3)
    code, output, errors = finish(start(environment(database, kafka, killed), *options))
    assert code == 0, errors
    assert "A training was interrupted; going on with it." in output
    assert "Trained 80 epochs" in output
    assert weights(killed) == weights(unbroken)
    assert not (killed / FOLDER).exists()


def test_an_interrupted_training_with_other_settings_is_dropped(
    database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path
) -> None:
    insert_circles(database, users=60, length=15)
    environ = environment(database, kafka, tmp_path)
    for options in (["--seed", "2"], ["--no-resume"]):
        process = start(environ, "--epochs", "100000", "--patience", "100000")
        wait_for(lambda: epochs_done(tmp_path) >= 1, "the first epoch")
        process.kill()
        finish(process)
        code, output, errors = finish(start(environ, "--epochs", "2", *options))
        assert code == 0, errors
        assert "going on" not in output
        assert "Trained 2 epochs" in output


def insert_late_circles(database: PostgresSettings) -> None:
    """Sixty more users go round after all others have ended."""
    with connect(database, "tests") as connection:
        connection.execute(
            """
            INSERT INTO interactions (event_id, user_id, item_id, created_at, event_type)
            SELECT gen_random_uuid(), 'late-' || u, 'item-' || (u + n) % 60,
                   timestamptz '2026-01-01Z' + make_interval(mins => 20 + n), 'view'
            FROM generate_series(1, 60) AS u, generate_series(1, 15) AS n
            """
        )


def test_a_candidate_from_shuffled_data_is_refused(
    database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path
) -> None:
    insert_circles(database, users=60, length=15)
    environ = environment(database, kafka, tmp_path)
    code, output, errors = finish(start(environ, "--epochs", "40", "--batch-tokens", "100", "--holdout-share", "0"))
    assert code == 0, errors
    assert "Going live: inconclusive: 0 users to ask, 50 are needed" in output
    ((live, _, _),) = models(database)
    with connect(database, "tests") as connection:
        connection.execute("SELECT setseed(0.5)")
        connection.execute("UPDATE interactions SET item_id = 'item-' || floor(random() * 60)::int")
    insert_late_circles(database)
    options = ["--epochs", "20", "--batch-tokens", "100", "--holdout-share", "0.49"]
    code, output, errors = finish(start(environ, *options))
    assert code == REFUSED, errors
    assert f"worse than {live}" in output
    with connect(database, "tests") as connection:
        rows = connection.execute("SELECT version, status, decision FROM ml_models ORDER BY created_at").fetchall()
    (first, second) = rows
    assert first[:2] == (live, "live")
    refused, status, decision = second
    assert status == "refused"
    assert (decision["promoted"], decision["verdict"], decision["forced"]) == (False, "worse", False)
    assert decision["hold_out"]["users"] == 60
    assert decision["windows"][live]["last_at"] < decision["hold_out"]["after"].replace("+00:00", "Z")
    (beside_live,) = (each for each in decision["against"] if each["opponent"] == live)
    assert beside_live["opponent_ndcg"] > 0.9 > 3 * beside_live["candidate_ndcg"]
    assert newest_announcement(kafka).model_version == live
    page = (tmp_path / refused / REPORT).read_text()
    assert f"worse than {live}" in page

    code, output, errors = finish(start(environ, *options, "--force"))
    assert code == 0, errors
    assert "promoted by force, although: worse than" in output
    assert newest_announcement(kafka).fallback_version == live


def test_a_report_lies_beside_the_bundle_and_not_in_its_hash(
    database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path
) -> None:
    insert_circles(database, users=60, length=15)
    code, output, errors = finish(start(environment(database, kafka, tmp_path), "--epochs", "3"))
    assert code == 0, errors
    announced = newest_announcement(kafka)
    page = tmp_path / announced.folder / REPORT
    assert f"Report: {page}" in output
    text = page.read_text()
    assert announced.model_version in text
    assert text.count("<svg") == 4
    assert not re.search(r"(src|href)=|https?://|@import|url\(", text)  # nothing from elsewhere
    page.write_text("changed")
    open_bundle(tmp_path, announced.folder, announced.manifest_sha256)


def waiting_announcements(connection: psycopg.Connection) -> int:
    row = connection.execute("SELECT count(*) FROM outbox WHERE topic = %s", (SYSTEM_CONTROL.name,)).fetchone()
    assert row is not None
    return int(row[0])
