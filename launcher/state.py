"""What runs, as a file: written by the launcher that runs the stack, read by every other command.

Processes are recorded with their time of creation, so that a number that has gone to another process since is not
taken for ours.
"""

import contextlib
import os
import time
from enum import StrEnum
from pathlib import Path

import msgspec
import psutil

from launcher.ports import Ports
from launcher.service import kill_group
from launcher.steps import Step

# The system's clock may be set between two looks; a process number does not come round within this.
_CREATE_TIME_TOLERANCE_S = 2.0
_GRACE_S = 10.0


class Phase(StrEnum):
    """Where a stack is between its start and its end."""

    STARTING = "starting"
    READY = "ready"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"


class Status(StrEnum):
    """Where a service is; `FINISHED` is for those that run once."""

    STARTING = "starting"
    READY = "ready"
    RESTARTING = "restarting"
    STOPPED = "stopped"
    FINISHED = "finished"


class ProcessId(msgspec.Struct, frozen=True):
    """A process, by number and time of creation (seconds since the epoch)."""

    pid: int
    create_time: float

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """Return the identity of a process, or None where it is gone already."""
        try:
            return cls(pid, psutil.Process(pid).create_time())
        except psutil.Error:
            return None

    def find(self) -> psutil.Process | None:
        """Return the process, or None where it has ended, its number reused or not."""
        try:
            process = psutil.Process(self.pid)
            same = abs(process.create_time() - self.create_time) < _CREATE_TIME_TOLERANCE_S
            return process if same and process.status() != psutil.STATUS_ZOMBIE else None
        except psutil.Error:
            return None


class ServiceState(msgspec.Struct):
    """One service as `status` shows it. `last_exit` is its last exit code, negative for a signal's number."""

    name: str
    status: Status
    process: ProcessId | None = None
    port: int | None = None
    started_at: float | None = None
    restarts: int = 0
    last_exit: int | None = None


class StackState(msgspec.Struct):
    """The whole stack. Times are seconds since the epoch."""

    launcher: ProcessId
    phase: Phase
    ports: Ports
    checkpoints: str
    started_at: float
    ready_after_s: float | None = None
    warnings: list[str] = []
    steps: list[Step] = []
    services: list[ServiceState] = []
    error: str | None = None
    error_log: str | None = None

    def is_running(self) -> bool:
        """Tell whether the launcher that wrote this is there."""
        return self.phase not in (Phase.STOPPED, Phase.FAILED) and self.launcher.find() is not None

    def leftovers(self) -> list[tuple[str, psutil.Process]]:
        """Return services whose processes are still there, last started first."""
        found = [(service.name, service.process.find()) for service in reversed(self.services) if service.process]
        return [(name, process) for name, process in found if process is not None]


def read_state(path: Path) -> StackState | None:
    """Return the recorded state, or None where there is none that this version understands."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=StackState)
    except (FileNotFoundError, msgspec.DecodeError):
        return None


def write_state(path: Path, state: StackState) -> None:
    """Write the state so that a reader sees the whole old or the whole new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{os.getpid()}")
    unfinished.write_bytes(msgspec.json.format(msgspec.json.encode(state)))
    unfinished.replace(path)


def end_leftovers(state: StackState) -> list[str]:
    """End what a launcher that was killed has left running, last started first; return the services' names."""
    ended = []
    for name, process in state.leftovers():
        ended.append(name)
        with contextlib.suppress(psutil.NoSuchProcess):
            process.terminate()
            deadline = time.monotonic() + _GRACE_S
            while is_alive(process) and time.monotonic() < deadline:
                time.sleep(0.05)
            if is_alive(process):
                kill_group(process.pid)
    return ended


def is_alive(process: psutil.Process) -> bool:
    """Tell whether a process runs; one that has ended and that nobody waits for does not."""
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.Error:
        return False
