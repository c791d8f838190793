"""Settings from the environment and from secret files, and .env.example, which shows all of them."""

import re
from pathlib import Path

import pytest
from pydantic import ValidationError

from api.settings import ApiSettings
from db_writer.settings import DbWriterSettings
from recstream.db.settings import AnalystSettings, PostgresSettings
from recstream.kafka.queues import GroupSettings
from recstream.kafka.redrive import RedriveSettings
from recstream.kafka.settings import ConsumerSettings, KafkaSettings
from recstream.model.settings import CheckpointSettings
from recstream.ops.logs import LogSettings
from recstream.ops.settings import ServiceSettings
from recstream.ops.tracing import TracingSettings
from seeder.settings import SeederSettings
from trainer.settings import TrainerSettings
from ui.settings import UiSettings
from worker.settings import WorkerSettings

ALL: list[type[ServiceSettings]] = [
    AnalystSettings,
    ApiSettings,
    CheckpointSettings,
    ConsumerSettings,
    DbWriterSettings,
    GroupSettings,
    KafkaSettings,
    LogSettings,
    PostgresSettings,
    RedriveSettings,
    SeederSettings,
    TracingSettings,
    TrainerSettings,
    UiSettings,
    WorkerSettings,
]
EXAMPLE = Path(__file__).resolve().parents[2] / ".env.example"


def known_variables() -> set[str]:
    """Return the name of every setting of every service."""
    return {
        f"{settings.model_config.get('env_prefix', '')}{name}".upper()
        for settings in ALL
        for name in settings.model_fields
    }


def test_the_example_shows_every_setting_and_no_other() -> None:
    shown = set(re.findall(r"^#?\s?([A-Z][A-Z0-9_]+)=", EXAMPLE.read_text(encoding="utf-8"), re.MULTILINE))
    assert known_variables() - shown == set()
    others = {name for name in shown - known_variables() if not name.startswith("RECSTREAM_")}
    # dbt runs without this project's packages, and so without its settings classes.
    marts = set(re.findall(r"MARTS_[A-Z_]+", (EXAMPLE.parent / "dbt" / "schedule.py").read_text(encoding="utf-8")))
    assert others == {"POSTGRES_PASSWORD_FILE"} | marts


def test_a_secret_may_stand_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "password"
    secret.write_text("s3cret\n")
    monkeypatch.setenv("POSTGRES_PASSWORD_FILE", str(secret))
    settings = PostgresSettings()
    assert settings.password.get_secret_value() == "s3cret"
    assert "s3cret" not in repr(settings)


def test_the_variable_itself_comes_before_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = tmp_path / "password"
    secret.write_text("from the file")
    monkeypatch.setenv("POSTGRES_PASSWORD_FILE", str(secret))
    monkeypatch.setenv("POSTGRES_PASSWORD", "from the variable")
    assert PostgresSettings().password.get_secret_value() == "from the variable"


def test_settings_do_not_change() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        KafkaSettings().bootstrap_servers = "elsewhere:9092"  # type: ignore[misc]


def test_a_grace_shorter_than_the_delivery_timeout_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_OUTBOX_GRACE_SECONDS", "5")
    with pytest.raises(ValidationError, match="greater than 10"):
        ApiSettings()


def test_a_process_says_which_setting_is_wrong(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POSTGRES_PORT", "many")
    with pytest.raises(SystemExit) as caught:
        PostgresSettings.load()
    assert caught.value.code == 2
    said = capsys.readouterr().err
    assert "POSTGRES_PORT is not usable" in said
    assert "POSTGRES_PASSWORD is not usable: Field required" in said
    assert "many" not in said
