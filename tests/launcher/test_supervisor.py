"""Supervision of real, small processes: restart with back-off, failure at the start, stop in reverse order."""

import itertools
import os
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.errors import Interrupted, LauncherError
from launcher.service import ServiceSpec
from launcher.state import ServiceState, Status
from launcher.supervisor import LONGEST_DELAY_S, Supervisor, restart_delay
from tests.waiting import eventually

_SERVE = """
import pathlib, signal, sys, time
signal.signal(signal.SIGTERM, lambda *_: (open(sys.argv[2], "a").write(sys.argv[1] + "\\n"), sys.exit(0)))
pathlib.Path(sys.argv[1]).touch()
time.sleep(120)
"""


class Bench:
    """A supervisor, and specifications of services that are ready once they have touched a file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stop = threading.Event()
        self.changes = 0
        self.supervisor = Supervisor(self.changed, self.stop)

    def changed(self) -> None:
        self.changes += 1

    def spec(self, name: str, code: str = _SERVE) -> ServiceSpec:
        touched = self.folder / name
        return ServiceSpec(
            name=name,
            command=(sys.executable, "-c", code, name, "stopped"),
            env=os.environ,
            cwd=self.folder,
            log=self.folder / f"{name}.log",
            ready=touched.exists,
            ready_timeout_s=20,
        )

    def state(self, name: str) -> ServiceState:
        return next(state for state in self.supervisor.states() if state.name == name)


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    bench = Bench(tmp_path)
    yield bench
    bench.supervisor.stop()


def test_the_delay_doubles_up_to_a_limit() -> None:
    delays = [restart_delay(failures) for failures in range(1, 5)]
    assert [later / earlier for earlier, later in itertools.pairwise(delays)] == [2, 2, 2]
    assert restart_delay(1000) == LONGEST_DELAY_S


def test_a_killed_service_is_restarted_and_counted(bench: Bench) -> None:
    bench.supervisor.start(bench.spec("api"))
    bench.supervisor.wait_ready("api")
    first = bench.state("api").process
    assert first is not None
    os.kill(first.pid, signal.SIGKILL)
    eventually(lambda: bench.state("api").restarts == 1 and bench.state("api").status is Status.READY)
    state = bench.state("api")
    assert state.last_exit == -signal.SIGKILL
    assert state.process is not None
    assert state.process.pid != first.pid


def test_a_service_that_keeps_dying_gets_a_longer_delay_each_time(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[int] = []

    def short_delay(number: int) -> float:
        failures.append(number)
        return 0.05

    monkeypatch.setattr("launcher.supervisor.restart_delay", short_delay)
    dying = "import pathlib, sys, time; pathlib.Path(sys.argv[1]).touch(); time.sleep(0.2); sys.exit(7)"
    bench.supervisor.start(bench.spec("worker-1", dying))
    bench.supervisor.wait_ready("worker-1")
    eventually(lambda: len(failures) >= 3)
    assert failures[:3] == [1, 2, 3]
    assert bench.state("worker-1").restarts >= 2
    assert bench.state("worker-1").last_exit == 7


def test_a_service_that_dies_at_its_start_fails_with_its_log(bench: Bench) -> None:
    bench.supervisor.start(bench.spec("api", "import sys; print('no database'); sys.exit(3)"))
    with pytest.raises(LauncherError, match="api exited with code 3 at its start") as raised:
        bench.supervisor.wait_ready("api")
    assert raised.value.log is not None
    assert raised.value.log.read_text() == "no database\n"


def test_waiting_ends_when_stopping_is_asked_for(bench: Bench) -> None:
    bench.supervisor.start(bench.spec("api", "import time; time.sleep(120)"))
    bench.stop.set()
    with pytest.raises(Interrupted):
        bench.supervisor.wait_ready("api")
    with pytest.raises(Interrupted):
        bench.supervisor.start(bench.spec("worker-1"))


def test_services_stop_in_the_reverse_order(bench: Bench) -> None:
    for name in ("kafka", "worker-1", "api"):
        bench.supervisor.start(bench.spec(name))
        bench.supervisor.wait_ready(name)
    announced: list[str] = []
    bench.supervisor.stop(announced.append)
    assert announced == ["api", "worker-1", "kafka"]
    assert (bench.folder / "stopped").read_text().split() == announced
    assert {state.status for state in bench.supervisor.states()} == {Status.STOPPED}
    assert {state.last_exit for state in bench.supervisor.states()} == {0}


def test_a_service_that_ignores_sigterm_is_killed_with_all_it_started(bench: Bench) -> None:
    stubborn = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(120)"])
pathlib.Path("child").write_text(str(child.pid))
pathlib.Path(sys.argv[1]).touch()
time.sleep(120)
"""
    spec = bench.spec("api", stubborn)
    bench.supervisor.start(ServiceSpec(**{**vars(spec), "grace_s": 0.2}))
    bench.supervisor.wait_ready("api")
    child = int((bench.folder / "child").read_text())
    bench.supervisor.stop()
    assert bench.state("api").last_exit == -signal.SIGKILL
    eventually(lambda: not _is_alive(child))


def _is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False
