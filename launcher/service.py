"""One service as a process of its own: how it starts, when it is ready, how it stops."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from launcher.accounts import Account
from launcher.errors import Interrupted, LauncherError

POLL_S = 0.05
"""How often a state is looked at that nothing announces: a process's end, a port's answer."""


@dataclass(frozen=True)
class ServiceSpec:
    """What a service is.

    `starting` is called before each start of the process, `stopped` after it ended in answer to a stop signal.
    `ready` must answer soon and raise nothing.
    """

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    log: Path
    ready: Callable[[], bool]
    cwd: Path
    port: int | None = None
    account: Account | None = None
    stop_signals: tuple[signal.Signals, ...] = (signal.SIGTERM,)
    grace_s: float = 15.0
    ready_timeout_s: float = 60.0
    starting: Callable[[], None] = field(default=lambda: None)
    stopped: Callable[[], None] = field(default=lambda: None)


class Service:
    """Starts and stops the process of one `ServiceSpec`, each time in a session of its own.

    So a Ctrl-C in the terminal reaches only the launcher, which then stops its services in order.
    """

    def __init__(self, spec: ServiceSpec) -> None:
        self.spec = spec
        self._process: subprocess.Popen[bytes] | None = None
        self.create_time: float | None = None
        self._group_ended = True

    @property
    def pid(self) -> int | None:
        """The process id of the last start, running or not."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process; its output is appended to the log. Does not wait until it is ready."""
        spec = self.spec
        account = spec.account
        spec.log.parent.mkdir(parents=True, exist_ok=True)
        spec.starting()
        with spec.log.open("ab") as log:
            self._process = subprocess.Popen(
                spec.command,
                env=dict(spec.env),
                cwd=spec.cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                user=account.uid if account else None,
                group=account.gid if account else None,
                extra_groups=[] if account else None,
            )
        self._group_ended = False
        try:
            self.create_time = psutil.Process(self._process.pid).create_time()
        except psutil.NoSuchProcess:
            self.create_time = None

    def exit_code(self) -> int | None:
        """Return the exit code (negative: the signal that ended it), or None while it runs or was never started."""
        return self._process.poll() if self._process else None

    def is_running(self) -> bool:
        """Tell whether the process is there, ready or not."""
        return self._process is not None and self._process.poll() is None

    def wait_ready(self, stop: threading.Event | None = None) -> None:
        """Return once the service is ready.

        Raises:
            LauncherError: with the log named, where the process ended or the time is up.
            Interrupted: where `stop` was set meanwhile.
        """
        deadline = time.monotonic() + self.spec.ready_timeout_s
        while True:
            if self.exit_code() is not None:
                raise LauncherError(f"{self.spec.name} {describe_exit(self.exit_code())} at its start.", self.spec.log)
            if self.spec.ready():
                return
            if stop is not None and stop.is_set():
                raise Interrupted
            if time.monotonic() > deadline:
                raise LauncherError(
                    f"{self.spec.name} was not ready within {self.spec.ready_timeout_s:.0f} seconds.", self.spec.log
                )
            time.sleep(POLL_S)

    def stop(self) -> int | None:
        """Stop the process: each stop signal with its grace, then SIGKILL to its whole process group."""
        process = self._process
        if process is None:
            return None
        for number in self.spec.stop_signals:
            if process.poll() is None:
                process.send_signal(number)
                try:
                    process.wait(self.spec.grace_s)
                except subprocess.TimeoutExpired:
                    continue
                self.spec.stopped()
        return self.kill()

    def kill(self) -> int | None:
        """Send SIGKILL to the process and all it started, and return its exit code."""
        process = self._process
        if process is None:
            return None
        if not self._group_ended:
            # Once only: later the number may be another's.
            kill_group(process.pid)
            self._group_ended = True
        return process.wait()


def kill_group(pid: int) -> None:
    """Send SIGKILL to the process group that a service leads; what is already gone is fine."""
    with suppress(ProcessLookupError):
        os.killpg(pid, signal.SIGKILL)


def describe_exit(code: int | None) -> str:
    """Put an exit code into words."""
    if code is None:
        return "is running"
    if code < 0:
        return f"was ended by {signal.Signals(-code).name}"
    return f"exited with code {code}"
