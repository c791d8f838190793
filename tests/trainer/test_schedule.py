"""Trainings at the times of a cron expression."""

import signal
import threading
from pathlib import Path

import pytest
from apscheduler.triggers.cron import CronTrigger

from recstream.db.settings import PostgresSettings
from recstream.kafka.settings import KafkaSettings
from tests.trainer.test_trainer_process import environment, finish, insert_circles, models, start
from tests.waiting import eventually
from trainer.__main__ import _without_schedule
from trainer.refusal import TrainingRefused
from trainer.schedule import parse_schedule, train_on_schedule


def test_five_fields_are_understood_and_others_refused() -> None:
    assert parse_schedule("0 3 * * mon-fri")
    for wrong in ("", "0 3 * *", "61 3 * * *", "daily"):
        with pytest.raises(TrainingRefused, match="five fields"):
            parse_schedule(wrong)


def test_the_trainings_get_the_other_options() -> None:
    given = ["--epochs", "3", "--schedule", "0 3 * * *", "--force", "--schedule=1 2 * * *"]
    assert _without_schedule(given) == ["--epochs", "3", "--force"]


@pytest.mark.integration
def test_it_trains_again_and_again_until_it_is_stopped(
    database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    insert_circles(database, users=20, length=5)
    for name, value in environment(database, kafka, tmp_path).items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("TRAINER_SCHEDULE", "* * * * *")  # is not the trainings' own
    stop = threading.Event()
    every_second = CronTrigger(second="*")
    thread = threading.Thread(target=train_on_schedule, args=(every_second, ["--epochs", "1"], stop))
    thread.start()
    try:
        eventually(lambda: len(models(database)) >= 2, what="two scheduled trainings", within=120)
    finally:
        stop.set()
        thread.join(60)
    assert not thread.is_alive()


@pytest.mark.integration
def test_the_service_waits_and_ends_on_sigterm(
    database: PostgresSettings, kafka: KafkaSettings, tmp_path: Path
) -> None:
    environ = environment(database, kafka, tmp_path) | {"TRAINER_SCHEDULE": "0 3 1 1 *"}
    process = start(environ)
    assert process.stderr is not None
    assert "schedule.waits" in process.stderr.readline()
    process.send_signal(signal.SIGTERM)
    assert finish(process)[0] == 0
    code, _, errors = finish(start(environ, "--schedule", "soon"))
    assert code == 1
    assert errors.startswith("The schedule must be a cron expression")
