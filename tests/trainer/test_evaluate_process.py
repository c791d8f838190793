"""`python -m trainer.evaluate` as it is started."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from recstream.db.settings import PostgresSettings
from recstream.kafka.settings import KafkaSettings
from tests.trainer.test_trainer_process import CHECKOUT, environment, insert_circles

FEW = ["--epochs", "40", "--patience", "40", "--d-model=16", "--threads", "1", "--batch-tokens", "100"]


def run(*options: str, environ: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trainer.evaluate", *options],
        env={**os.environ, "PYTHONPATH": str(CHECKOUT), "COLUMNS": "120", **(environ or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def circles(path: Path) -> Path:
    """Sixty users on the same circle of 30 items, each a minute an item, everybody at another hour."""
    rows = [f"{user},{(user + step) % 30},5,{user * 3600 + step * 60}" for user in range(60) for step in range(12)]
    path.write_text("\n".join(["userId,movieId,rating,timestamp", *rows]) + "\n", encoding="utf-8")
    return path


def test_the_network_beside_its_baselines(tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    data = circles(tmp_path / "ratings.csv")
    done = run("--data", str(data), "--seeds", "1,2", "--json", str(written), *FEW)
    assert done.returncode == 0, done.stderr
    assert "leave-one-out: 60 users, exact ranks of all unseen items, 2 seeds" in done.stdout
    for column in ("popular", "popular 7 d", "item-kNN", "SASRec"):
        assert column in done.stdout
    figures = json.loads(written.read_text())
    assert figures["command"].startswith(f"./run evaluate --data {data}")
    assert figures["data"]["interactions"] == 720
    assert figures["users_tested"] == 60
    assert list(figures["baselines"]) == ["popular", "popular 7 d", "item-kNN"]
    runs = figures["sasrec"]["runs"]
    assert [each["seed"] for each in runs] == [1, 2]
    assert runs[0]["metrics"] != runs[1]["metrics"] or runs[0]["epochs"] != runs[1]["epochs"]
    assert all(len(each["epochs"]) == 40 for each in runs)
    ndcgs = [each["metrics"]["ndcg@10"] for each in runs]
    assert figures["sasrec"]["mean"]["ndcg@10"] == pytest.approx(sum(ndcgs) / 2)
    assert min(ndcgs) > 0.9 > figures["baselines"]["popular"]["ndcg@10"]
    assert figures["sasrec"]["standard_deviation"]["ndcg@10"] == pytest.approx(abs(ndcgs[0] - ndcgs[1]) / 2**0.5)
    assert figures["peak_bytes"] > 2**20
    assert figures["versions"]["torch"]


def test_a_temporal_split(tmp_path: Path) -> None:
    done = run("--data", str(circles(tmp_path / "ratings.csv")), "--split", "temporal", *FEW)
    assert done.returncode == 0, done.stderr
    assert "temporal: 6 users" in done.stdout  # the last tenth of the hours


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--data", "none.txt"], "none.txt cannot be read"),
        (["--seeds", "one"], "--seeds takes whole numbers"),
        (["--seeds", "-1"], "A seed must not be negative"),
        (["--split", "random"], "--split is leave-one-out or temporal"),
        (["--epoch", "3"], "--epoch is no option"),
        (["--epochs"], "--epochs needs a value"),
        (["--epochs", "none"], "The settings are unusable: epochs"),
        (["--json", "nowhere/figures.json"], "There is no folder nowhere"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(tmp_path: Path, options: list[str], sentence: str) -> None:
    data = ["--data", str(circles(tmp_path / "ratings.csv"))] if "--data" not in options else []
    done = run(*data, *options)
    assert (done.returncode, done.stderr.count("\n")) == (1, 1), done.stderr
    assert done.stderr.startswith(sentence)


def test_an_untimed_file_has_no_temporal_split(tmp_path: Path) -> None:
    untimed = tmp_path / "set.txt"
    untimed.write_text("".join(f"{user} {user % 5} {user % 7} 9\n" for user in range(20)))
    done = run("--data", str(untimed), "--split", "temporal")
    assert (done.returncode, done.stderr.count("\n")) == (1, 1)
    assert done.stderr.startswith("A temporal split needs times")
    assert "no times" in run("--data", str(untimed), "--epochs", "1").stdout


@pytest.mark.integration
def test_without_a_file_it_measures_on_the_database(
    database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path
) -> None:
    environ = environment(database, kafka, tmp_path)
    empty = run(environ=environ)
    assert (empty.returncode, empty.stderr) == (1, "PostgreSQL holds no interactions; `./run seed` brings some.\n")
    insert_circles(database, users=40, length=8)
    done = run("--epochs", "1", environ=environ)
    assert done.returncode == 0, done.stderr
    assert "leave-one-out: 40 users" in done.stdout
    assert list(tmp_path.iterdir()) == []
