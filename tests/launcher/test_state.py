"""The state file: read back whole, and never taking another process for one of ours."""

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from launcher.ports import Ports
from launcher.state import (
    Phase,
    ProcessId,
    ServiceState,
    StackState,
    Status,
    end_leftovers,
    read_state,
    write_state,
)


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"], start_new_session=True) as process:
        yield process
        process.kill()


def identity(pid: int) -> ProcessId:
    found = ProcessId.of(pid)
    assert found is not None
    return found


def state_of(launcher: ProcessId, *services: ServiceState) -> StackState:
    return StackState(
        launcher=launcher,
        phase=Phase.READY,
        ports=Ports.with_offset(0, workers=1),
        checkpoints="checkpoints",
        started_at=time.time(),
        services=list(services),
    )


def test_a_state_is_read_as_it_was_written(tmp_path: Path) -> None:
    state = state_of(identity(os.getpid()), ServiceState("api", Status.READY, port=8000, restarts=2, last_exit=-9))
    write_state(tmp_path / "state.json", state)
    assert read_state(tmp_path / "state.json") == state
    assert [path.name for path in tmp_path.iterdir()] == ["state.json"]


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"launcher": 1}'])
def test_a_file_that_is_no_state_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "state.json").write_bytes(content)
    assert read_state(tmp_path / "state.json") is None


def test_a_missing_file_counts_as_none(tmp_path: Path) -> None:
    assert read_state(tmp_path / "state.json") is None


def test_a_process_is_found_by_number_and_time_of_creation() -> None:
    found = identity(os.getpid()).find()
    assert found is not None
    assert found.pid == os.getpid()


def test_a_number_that_has_gone_to_another_process_is_stale() -> None:
    own = identity(os.getpid())
    stale = msgspec.structs.replace(own, create_time=own.create_time - 3600)
    assert stale.find() is None
    assert not state_of(stale).is_running()


def test_an_ended_process_is_not_found(sleeper: subprocess.Popen[bytes]) -> None:
    ended = identity(sleeper.pid)
    sleeper.kill()
    # Not waited for yet: a zombie does not run either.
    deadline = time.monotonic() + 10
    while ended.find() is not None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert ended.find() is None


def test_a_stack_runs_as_long_as_its_launcher() -> None:
    running = state_of(identity(os.getpid()))
    assert running.is_running()
    running.phase = Phase.STOPPED
    assert not running.is_running()


def test_leftovers_are_ended(sleeper: subprocess.Popen[bytes]) -> None:
    own = identity(os.getpid())
    gone_launcher = msgspec.structs.replace(own, create_time=own.create_time - 3600)
    state = state_of(gone_launcher, ServiceState("api", Status.READY, process=identity(sleeper.pid)))
    assert end_leftovers(state) == ["api"]
    assert sleeper.wait(10) != 0


def test_a_process_that_has_only_the_number_of_a_service_is_left_alone(sleeper: subprocess.Popen[bytes]) -> None:
    other = msgspec.structs.replace(identity(sleeper.pid), create_time=1.0)
    assert end_leftovers(state_of(other, ServiceState("api", Status.READY, process=other))) == []
    assert sleeper.poll() is None
