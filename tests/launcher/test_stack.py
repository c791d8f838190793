"""The whole stack by its commands, beside whatever else runs: own state folder, own ports."""

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx
import psutil
import pytest

from launcher.layout import Layout
from launcher.ports import free_offset
from launcher.services import python_module
from launcher.state import Phase, StackState, Status, read_state
from tests.waiting import eventually

pytestmark = pytest.mark.integration


class Commands:
    """The launcher's commands for one state folder."""

    def __init__(self, home: Path) -> None:
        self.layout = Layout(home, home / "checkpoints")
        self.offset = free_offset(workers=1)

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        env = {**os.environ, "RECSTREAM_HOME": str(self.layout.home), "NO_COLOR": "1"}
        return subprocess.run(
            python_module("launcher", *arguments), env=env, capture_output=True, text=True, timeout=240
        )

    def up(self) -> subprocess.CompletedProcess[str]:
        return self.run("up", "--detach", "--no-train", f"--port-offset={self.offset}")

    def state(self) -> StackState:
        state = read_state(self.layout.state_file)
        assert state is not None
        return state

    def pids(self) -> dict[str, int]:
        return {service.name: service.process.pid for service in self.state().services if service.process}


@pytest.fixture(scope="module")
def commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Commands]:
    commands = Commands(tmp_path_factory.mktemp("stack") / "home")
    try:
        yield commands
    finally:
        commands.run("down")
        commands.run("reset", "--yes")


@pytest.fixture
def running(commands: Commands) -> Commands:
    """Return a stack that runs; it is started where it does not."""
    started = commands.up()
    assert started.returncode == 0, started.stdout + started.stderr
    return commands


def test_up_ends_ready_and_a_second_one_says_so(running: Commands) -> None:
    assert running.state().phase is Phase.READY
    assert list(running.pids())[-2:] == ["ui", "marts"]
    again = running.up()
    assert again.returncode == 0
    assert "is running already" in again.stdout
    assert f"http://127.0.0.1:{8000 + running.offset}" in again.stdout


@pytest.mark.skipif(shutil.which("prometheus") is None, reason="Prometheus is not installed")
def test_prometheus_scrapes_every_process(running: Commands) -> None:
    url = f"http://127.0.0.1:{9090 + running.offset}"
    assert url in running.run("status").stdout
    # One more worker, by hand, is scraped while it runs.
    environment = {**os.environ, "RECSTREAM_HOME": str(running.layout.home)}
    with subprocess.Popen(python_module("launcher", "worker"), env=environment, stdout=subprocess.DEVNULL) as worker:
        try:
            expected = {"api": "up", "db_writer": "up", "marts": "up", "worker-1": "up", "worker-2": "up"}
            eventually(lambda: _targets(url) == expected, what=f"{expected}")
        finally:
            worker.terminate()
    assert worker.returncode == 0
    del expected["worker-2"]
    eventually(lambda: _targets(url) == expected, what=f"{expected}")


def _targets(url: str) -> dict[str, str]:
    found = httpx.get(f"{url}/api/v1/targets").json()["data"]["activeTargets"]
    return {target["labels"]["instance"]: target["health"] for target in found}


def test_a_request_is_answered_as_a_table(running: Commands) -> None:
    asked = running.run("request", "user_1", "--k", "3")
    assert asked.returncode == 0, asked.stderr
    lines = asked.stdout.splitlines()
    assert [line.split()[0] for line in lines[:4]] == ["rank", "1", "2", "3"]
    assert "source popularity" in asked.stdout


def test_refused_input_is_explained(running: Commands) -> None:
    asked = running.run("request", "no/such/user")
    assert asked.returncode == 1
    assert asked.stderr.startswith("error: The API refused the request (4")
    assert "Traceback" not in asked.stderr


def test_the_variables_of_env_reach_the_database(running: Commands) -> None:
    exports = running.run("env").stdout
    shell = f"{exports}\nprintf '%s' \"$PGUSER $PGDATABASE $PGPORT $KAFKA_BOOTSTRAP_SERVERS\""
    printed = subprocess.run(["/bin/sh", "-c", shell], capture_output=True, text=True).stdout
    assert printed == f"sasrec sasrec {5432 + running.offset} 127.0.0.1:{9092 + running.offset}"
    users = running.run("psql", "-Atc", "SELECT count(*) FROM users")
    assert users.stdout == "100\n"


def test_a_killed_service_is_restarted_and_shown(running: Commands) -> None:
    killed = running.pids()["worker-1"]
    os.kill(killed, signal.SIGKILL)

    def restarted() -> bool:
        worker = next(service for service in running.state().services if service.name == "worker-1")
        return worker.restarts > 0 and worker.status is Status.READY and worker.last_exit == -signal.SIGKILL

    eventually(restarted, "the worker's restart")
    assert running.pids()["worker-1"] != killed
    assert "was ended by SIGKILL" in running.run("status").stdout


def test_what_a_killed_launcher_leaves_is_recognised_and_replaced(running: Commands) -> None:
    left = running.pids()
    launcher = running.state().launcher
    os.kill(launcher.pid, signal.SIGKILL)
    eventually(lambda: launcher.find() is None, "the launcher's end")
    assert "left kafka, postgres" in running.run("env").stderr.replace("left postgres, kafka", "left kafka, postgres")
    assert running.run("status").returncode == 1
    started = running.up()
    assert started.returncode == 0, started.stdout + started.stderr
    assert not set(left.values()) & set(running.pids().values())
    assert not any(psutil.pid_exists(pid) for pid in left.values())


def test_down_leaves_nothing_running_and_keeps_what_is_stored(running: Commands) -> None:
    before = running.pids()
    assert running.run("down").returncode == 0
    assert not any(psutil.pid_exists(pid) for pid in before.values())
    assert running.state().phase is Phase.STOPPED
    assert running.up().returncode == 0
    assert running.run("psql", "-Atc", "SELECT count(*) FROM users").stdout == "100\n"


def test_a_failed_start_shows_the_log_and_leaves_nothing(commands: Commands) -> None:
    commands.run("down")
    password = commands.layout.secrets / "postgres_superuser_password"
    hidden = password.rename(password.with_suffix(".hidden"))
    try:
        failed = commands.up()
    finally:
        hidden.rename(password)
    assert failed.returncode == 1
    assert "postgres_superuser_password" in failed.stderr.replace("\n", "")
    assert "Traceback" not in failed.stderr
    assert commands.pids() == {}
    assert commands.state().phase is Phase.FAILED


def test_seeding_without_a_stack_starts_what_it_needs_and_stops_it(tmp_path: Path) -> None:
    stopped = Commands(tmp_path / "home")
    try:
        first = stopped.run("seed", "--users", "20")
        assert first.returncode == 0, first.stdout + first.stderr
        assert "Announced popularity-" in first.stdout
        state = stopped.state()
        assert not state.is_running()
        assert state.phase is Phase.STOPPED
        assert state.leftovers() == []
        again = stopped.run("seed")
        assert again.returncode == 0, again.stdout + again.stderr
        assert "holds interactions already" in again.stdout
    finally:
        stopped.run("reset", "--yes")  # its database may lie outside the folder that pytest removes


def test_a_failure_of_seeding_is_the_commands_own(tmp_path: Path) -> None:
    stopped = Commands(tmp_path / "home")
    try:
        failed = stopped.run("seed", "--source", "csv", str(tmp_path / "nothing.csv"))
        assert failed.returncode != 0
        assert "nothing.csv" in failed.stderr
        assert "Traceback" not in failed.stderr
        assert not stopped.state().is_running()
    finally:
        stopped.run("reset", "--yes")
