"""The environment of services: the stack's variables win, and nothing contradicts them."""

from pathlib import Path

from launcher.layout import CHECKOUT, Layout
from launcher.ports import Ports
from launcher.service_env import scheduler_env, service_env, trainer_env, worker_env
from launcher.services import own_services

LAYOUT = Layout(home=Path("/state"), checkpoints=Path("/bundles"))
PORTS = Ports.with_offset(100, workers=1)


def test_services_are_told_where_everything_is() -> None:
    env = service_env({}, LAYOUT, PORTS)
    assert env["KAFKA_BOOTSTRAP_SERVERS"] == "127.0.0.1:9192"
    assert (env["POSTGRES_HOST"], env["POSTGRES_PORT"]) == ("127.0.0.1", "5532")
    assert env["POSTGRES_PASSWORD_FILE"] == "/state/secrets/postgres_password"
    assert env["CHECKPOINTS_DIR"] == "/bundles"
    assert (env["API_PORT"], env["DB_WRITER_METRICS_PORT"]) == ("8100", "9201")
    assert (env["UI_PORT"], env["UI_API_URL"]) == ("8601", "http://127.0.0.1:8100")


def test_a_password_of_the_user_does_not_win_over_the_generated_one() -> None:
    assert "POSTGRES_PASSWORD" not in service_env({"POSTGRES_PASSWORD": "other"}, LAYOUT, PORTS)


def test_the_users_other_variables_are_inherited_but_cannot_point_elsewhere() -> None:
    env = service_env({"LOG_LEVEL": "debug", "LOG_FORMAT": "json", "POSTGRES_PORT": "1"}, LAYOUT, PORTS)
    assert (env["LOG_LEVEL"], env["LOG_FORMAT"], env["POSTGRES_PORT"]) == ("debug", "json", "5532")


def test_only_workers_are_held_to_one_thread() -> None:
    base = service_env({}, LAYOUT, PORTS)
    worker = worker_env(base, "worker-3", 9313)
    assert (worker["WORKER_ID"], worker["WORKER_METRICS_PORT"]) == ("worker-3", "9313")
    assert worker["OMP_NUM_THREADS"] == "1"
    assert "OMP_NUM_THREADS" not in trainer_env(base)
    assert worker["MALLOC_TRIM_THRESHOLD_"] == trainer_env(base)["MALLOC_TRIM_THRESHOLD_"] == "4294967296"


def test_only_the_service_waits_for_a_schedule() -> None:
    base = service_env({"TRAINER_SCHEDULE": "0 3 * * *"}, LAYOUT, PORTS)
    assert "TRAINER_SCHEDULE" not in trainer_env(base)
    assert (scheduler_env(base) or {})["TRAINER_SCHEDULE"] == "0 3 * * *"
    assert scheduler_env(service_env({}, LAYOUT, PORTS)) is None
    names = [spec.name for spec in own_services(LAYOUT, PORTS, base)]
    assert names.count("trainer") == 1
    assert "trainer" not in [spec.name for spec in own_services(LAYOUT, PORTS, service_env({}, LAYOUT, PORTS))]


def test_a_state_folder_of_ones_own_brings_its_own_checkpoints() -> None:
    assert Layout.from_environment({}) == Layout(CHECKOUT / ".local", CHECKOUT / "checkpoints")
    assert Layout.from_environment({"RECSTREAM_HOME": "/x"}) == Layout(Path("/x"), Path("/x/checkpoints"))
    chosen = Layout.from_environment({"RECSTREAM_HOME": "/x", "CHECKPOINTS_DIR": "/y"})
    assert chosen.checkpoints == Path("/y")
