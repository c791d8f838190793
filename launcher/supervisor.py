"""Keeps services running: starts them, waits until they are ready, restarts those that die, stops them in order."""

import threading
import time
from collections.abc import Callable

from launcher.errors import Interrupted
from launcher.service import Service, ServiceSpec, kill_group
from launcher.state import ProcessId, ServiceState, Status

_LOOK_S = 0.2
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
QUIET_S = 60.0
"""A service that ran for so long gets the first delay again."""


def restart_delay(failures: int) -> float:
    """Return how long to wait before a restart, after so many failures in a row: twice as long each time."""
    return float(min(FIRST_DELAY_S * 2 ** min(failures - 1, 16), LONGEST_DELAY_S))


class _Supervised:
    """A service with what the supervisor knows about it."""

    def __init__(self, spec: ServiceSpec) -> None:
        self.service = Service(spec)
        self.status = Status.STOPPED
        self.started_at: float | None = None
        self.restarts = 0
        self.failures = 0
        self.restart_at = 0.0
        self.last_exit: int | None = None
        self.watched = False

    def start(self) -> None:
        self.service.start()
        self.status = Status.STARTING
        self.started_at = time.time()

    def state(self) -> ServiceState:
        service = self.service
        running = service.is_running() and service.pid is not None and service.create_time is not None
        return ServiceState(
            name=service.spec.name,
            status=self.status,
            process=ProcessId(service.pid or 0, service.create_time or 0.0) if running else None,
            port=service.spec.port,
            started_at=self.started_at,
            restarts=self.restarts,
            last_exit=self.last_exit,
        )


class Supervisor:
    """Supervises services in the order in which they were started.

    A service that dies before it was ready once fails the start; from then on it is restarted, with a delay that
    doubles from half a second up to half a minute.
    """

    def __init__(self, changed: Callable[[], None], stop: threading.Event) -> None:
        """Supervise nothing yet.

        Args:
            changed: called after every change of `states`, from any thread.
            stop: once set, waiting ends with `Interrupted` and nothing is restarted any more.
        """
        self._changed = changed
        self._stop = stop
        self._services: list[_Supervised] = []
        self._lock = threading.Lock()
        self._watcher: threading.Thread | None = None

    def start(self, spec: ServiceSpec) -> None:
        """Start a service; it counts as supervised once `wait_ready` has seen it ready."""
        if self._stop.is_set():
            raise Interrupted
        supervised = _Supervised(spec)
        with self._lock:
            self._services.append(supervised)
        supervised.start()
        self._changed()
        self._start_watcher()

    def wait_ready(self, name: str) -> None:
        """Return when the service is ready.

        Raises:
            LauncherError: where it ended or took too long.
            Interrupted: where stopping was asked for meanwhile.
        """
        supervised = self._find(name)
        supervised.service.wait_ready(self._stop)
        supervised.status = Status.READY
        supervised.watched = True
        self._changed()

    def watch(self, name: str) -> None:
        """Supervise a service that was not ready in time, for one that the others can do without."""
        self._find(name).watched = True

    def states(self) -> list[ServiceState]:
        """Return where every service is, in the order of their starts."""
        with self._lock:
            return [supervised.state() for supervised in self._services]

    def stop(self, stopping: Callable[[str], None] = lambda name: None) -> None:
        """Stop every service, the last started first. `stopping` is told each one's name before."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()
        for supervised in reversed(self._services):
            if supervised.service.is_running():
                stopping(supervised.service.spec.name)
            supervised.last_exit = supervised.service.stop()
            supervised.status = Status.STOPPED
            self._changed()

    def kill(self) -> None:
        """End every service at once, without its leave; does not wait, so that a signal handler may call it."""
        for supervised in self._services:
            if supervised.service.is_running() and supervised.service.pid is not None:
                kill_group(supervised.service.pid)

    def _find(self, name: str) -> _Supervised:
        return next(supervised for supervised in self._services if supervised.service.spec.name == name)

    def _start_watcher(self) -> None:
        if self._watcher is None:
            self._watcher = threading.Thread(target=self._watch, name="supervisor", daemon=True)
            self._watcher.start()

    def _watch(self) -> None:
        while not self._stop.wait(_LOOK_S):
            with self._lock:
                watched = [supervised for supervised in self._services if supervised.watched]
            for supervised in watched:
                before = supervised.status
                self._look_at(supervised)
                if supervised.status is not before:
                    self._changed()

    def _look_at(self, supervised: _Supervised) -> None:
        code = supervised.service.exit_code()
        if supervised.status is Status.RESTARTING:
            if time.monotonic() >= supervised.restart_at:
                supervised.restarts += 1
                try:
                    supervised.start()
                except OSError:  # No memory or no file handles for a process, for now.
                    self._schedule_restart(supervised)
        elif code is not None:
            supervised.last_exit = code
            # What it had started may live on and hold its port.
            supervised.service.kill()
            self._schedule_restart(supervised)
        elif supervised.status is Status.STARTING and supervised.service.spec.ready():
            supervised.status = Status.READY

    @staticmethod
    def _schedule_restart(supervised: _Supervised) -> None:
        quiet = time.time() - (supervised.started_at or 0.0) > QUIET_S
        supervised.failures = 1 if quiet else supervised.failures + 1
        supervised.restart_at = time.monotonic() + restart_delay(supervised.failures)
        supervised.status = Status.RESTARTING
