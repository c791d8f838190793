"""The whole of Recstream on this machine: Kafka, PostgreSQL, tables, topics, demo data, services and a first model."""

import os
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from types import TracebackType
from typing import Self

from filelock import FileLock, Timeout

from launcher.api_client import ApiClient
from launcher.errors import AlreadyRunning, Interrupted, LauncherError
from launcher.jobs import Job, run_job
from launcher.kafka import KafkaServer
from launcher.layout import Layout
from launcher.marts import NAME as MARTS
from launcher.marts import marts_spec
from launcher.ports import Ports, is_free
from launcher.postgres import PostgresServer
from launcher.prometheus import find_prometheus, prometheus_spec
from launcher.service import POLL_S
from launcher.service_env import service_env, trainer_env
from launcher.services import own_services, python_module
from launcher.state import Phase, ProcessId, ServiceState, StackState, Status, end_leftovers, read_state, write_state
from launcher.steps import Step, Steps
from launcher.supervisor import Supervisor

_LARGEST_LOG_BYTES = 20_000_000
_SWITCH_S = 60.0
"""How long workers may take to serve a model that was just trained."""


class Stack:
    """The stack of one state folder, run by this process: started on entry, stopped on exit.

    Everything that happens is recorded in the state file, for the other commands. `stop_requested` may be set from
    anywhere, also during the start, which then ends with `Interrupted`.
    """

    def __init__(
        self,
        layout: Layout,
        ports: Ports,
        train: bool = True,
        port_offset: int = 0,
        services: bool = True,
        on_steps: Callable[[list[Step]], None] = lambda steps: None,
    ) -> None:
        """Describe the stack; nothing starts yet.

        Args:
            layout: its folders.
            ports: its ports, one for each worker among them.
            train: whether to train a first model where there is none.
            port_offset: how far `ports` are from the defaults, to propose others where one is taken.
            services: whether to start anything beside Kafka and PostgreSQL, with their topics and tables.
            on_steps: called with all steps after each change, from any thread.
        """
        self.layout = layout
        self.ports = ports
        self.stop_requested = threading.Event()
        self._train = train
        self._port_offset = port_offset
        self._services = services
        self.on_steps = on_steps
        self._steps = Steps(self._publish)
        self._supervisor = Supervisor(self._publish, self.stop_requested)
        self._jobs: dict[str, ServiceState] = {}
        self._lock = FileLock(layout.lock_file)
        self._publish_lock = threading.Lock()
        self._env = service_env(os.environ, layout, ports)
        self._prometheus = find_prometheus() if services else None
        self.state: StackState | None = None

    def __enter__(self) -> Self:
        """Start everything; a failure stops again what had started."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop everything."""
        self.stop()

    def start(self) -> None:
        """Start everything, and return when a request would be answered (without services, when Kafka and SQL would).

        Raises:
            AlreadyRunning: where the stack runs.
            LauncherError: where something fails; what had started is stopped.
            Interrupted: where `stop_requested` was set meanwhile; what had started is stopped.
        """
        self.layout.home.mkdir(parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise AlreadyRunning("Recstream is running already.") from None
        try:
            self._prepare()
            self._together(self._start_kafka, self._start_postgres)
            if self._services:
                self._start_services()
            self._set_ready()
        except BaseException as error:
            self._stop(Phase.STOPPED if isinstance(error, Interrupted) else Phase.FAILED, error)
            raise

    def stop(self) -> None:
        """Stop everything, in the reverse order of the start."""
        self._stop(Phase.STOPPED, None)

    def services(self) -> list[ServiceState]:
        """Return where every service is."""
        return self._supervisor.states()

    def kill(self) -> None:
        """End every process at once; for a person who will not wait for `stop`, which then returns soon."""
        self._supervisor.kill()

    def _prepare(self) -> None:
        previous = read_state(self.layout.state_file)
        launcher = ProcessId.of(os.getpid())
        assert launcher is not None
        self.state = StackState(
            launcher=launcher,
            phase=Phase.STARTING,
            ports=self.ports,
            checkpoints=str(self.layout.checkpoints),
            started_at=time.time(),
        )
        if previous is not None and previous.leftovers():
            with self._steps.step("Ending what a killed launcher left running") as detail:
                detail(", ".join(end_leftovers(previous)))
        self.ports.require_free(self._port_offset)
        self.layout.checkpoints.mkdir(parents=True, exist_ok=True)
        self._rotate_logs()
        self._publish()

    def _start_services(self) -> None:
        self._start_prometheus()
        specs = own_services(self.layout, self.ports, self._env)
        for spec in specs:
            self._supervisor.start(spec)
        self._together(self._seed, lambda: self._await_service("api"))
        if self._train and not self._has_trained_model():
            self._train_first_model()
        self._together(
            self._await_prometheus,
            *(lambda name=spec.name: self._await_service(name) for spec in specs if spec.name != "api"),
        )
        self._await_live_model()
        self._start_marts()

    def _start_marts(self) -> None:
        """Start what runs dbt; nothing waits for it, and its first run shall not slow the start."""
        try:
            self._supervisor.start(marts_spec(self.layout, self.ports, self._env))
        except Interrupted:
            raise
        except LauncherError as error:
            self._warn(f"{error} Until then the marts stay as they are.")
        else:
            self._supervisor.watch(MARTS)

    def _set_ready(self) -> None:
        if self.state is not None:
            self.state.phase = Phase.READY
            self.state.ready_after_s = time.time() - self.state.started_at
        self._publish()

    def _together(self, *parts: Callable[[], None]) -> None:
        """Run parts at the same time; the first failure ends the others."""
        with ThreadPoolExecutor(thread_name_prefix="start") as pool:
            futures: list[Future[None]] = [pool.submit(part) for part in parts]
            for future in as_completed(futures):
                if future.exception() is not None:
                    self.stop_requested.set()
                    future.result()

    def _start_kafka(self) -> None:
        layout, ports = self.layout, self.ports
        kafka = KafkaServer(
            layout.data / "kafka", layout.log("kafka"), layout.cache, ports.kafka, ports.kafka_controller
        )
        with self._steps.step("Apache Kafka") as detail:

            def fetched(done: int, total: int) -> None:
                if self.stop_requested.is_set():
                    raise Interrupted
                detail(f"fetching jars: {done} of {total}" if done < total else "")

            self._supervisor.start(kafka.prepare(fetched))
            self._supervisor.wait_ready("kafka")
        self._run_job("Kafka topics", self._job("topics", "admin", "topics"))

    def _start_postgres(self) -> None:
        layout = self.layout
        postgres = PostgresServer(layout.data / "postgres", layout.log("postgres"), layout.secrets, self.ports.postgres)
        with self._steps.step("PostgreSQL") as detail:
            spec = postgres.prepare()
            if outside := postgres.outside():
                detail(
                    f"data in {outside}, because {spec.account.name if spec.account else ''} cannot enter {layout.home}"
                )
            self._supervisor.start(spec)
            self._supervisor.wait_ready("postgres")
            postgres.ensure_database()
        self._run_job("Database tables", self._job("migrate", "admin", "migrate"))

    def _start_prometheus(self) -> None:
        """Start Prometheus where it is installed and its port is free; nothing depends on it."""
        port = self.ports.prometheus
        if self._prometheus is None:
            return
        if not is_free(port):
            self._prometheus = None
            self._warn(
                f"Port {port} is taken, so Prometheus was not started. Debian's package runs one of its own: "
                "systemctl disable --now prometheus"
            )
            return
        self._supervisor.start(prometheus_spec(self._prometheus, self.layout, self.ports))

    def _await_prometheus(self) -> None:
        if self._prometheus is None:
            return
        try:
            self._await_service("prometheus")
        except Interrupted:
            raise
        except LauncherError as error:
            self._warn(f"{error} The rest works without it; see ./run logs prometheus.")
            self._supervisor.watch("prometheus")

    def _seed(self) -> None:
        self._run_job("Demo data", self._job("seeder", "seeder"))

    def _await_service(self, name: str) -> None:
        with self._steps.step(name):
            self._supervisor.wait_ready(name)

    def _has_trained_model(self) -> bool:
        with ApiClient(self.ports.api) as api:
            return any(model["kind"] == "sasrec" for model in api.models())

    def _train_first_model(self) -> None:
        job = Job("trainer", python_module("trainer"), trainer_env(self._env), self.layout.log("trainer"))
        try:
            self._run_job("First model", job)
        except Interrupted:
            raise
        except LauncherError:
            self._warn(
                "The training of the first model failed; see ./run logs trainer. "
                "Until ./run train succeeds, recommendations are what is popular."
            )

    def _await_live_model(self) -> None:
        """Wait until every worker serves the model that is live."""
        with ApiClient(self.ports.api) as api, self._steps.step("Model in service") as detail:
            expected = {f"worker-{number}" for number, _ in enumerate(self.ports.workers, start=1)}
            deadline = time.monotonic() + _SWITCH_S
            while True:
                live = next((model["version"] for model in api.models() if model["status"] == "live"), None)
                serving = {worker["worker_id"] for worker in api.workers() if worker["model_version"] == live}
                if live is None or expected <= serving:
                    detail(live or "none")
                    return
                if self.stop_requested.is_set():
                    raise Interrupted
                if time.monotonic() > deadline:
                    late = ", ".join(sorted(expected - serving))
                    self._warn(f"{late} did not load {live} within {_SWITCH_S:.0f} seconds; see ./run logs worker-1.")
                    return
                time.sleep(POLL_S)

    def _job(self, name: str, module: str, *arguments: str) -> Job:
        return Job(name, python_module(module, *arguments), self._env, self.layout.log(name))

    def _run_job(self, title: str, job: Job) -> None:
        record = self._jobs[job.name] = ServiceState(job.name, Status.STARTING, started_at=time.time())

        def started(pid: int) -> None:
            record.process = ProcessId.of(pid)
            self._publish()

        try:
            with self._steps.step(title) as detail:
                run_job(job, self.stop_requested, started, detail)
        finally:
            record.status, record.process = Status.FINISHED, None
            self._publish()

    def _warn(self, text: str) -> None:
        if self.state is not None:
            self.state.warnings.append(text)
            self._publish()

    def _stop(self, phase: Phase, error: BaseException | None) -> None:
        if self.state is not None:
            self.state.phase = Phase.STOPPING
            self._publish()
            if self.state.services:
                with self._steps.step("Stopping") as detail:
                    self._supervisor.stop(detail)
                    detail("")
            self.state.phase = phase
            if isinstance(error, LauncherError) and not isinstance(error, Interrupted):
                self.state.error = str(error)
                self.state.error_log = str(error.log) if error.log else None
            self._publish()
        self._lock.release()

    def _publish(self) -> None:
        if self.state is None:
            return
        with self._publish_lock:
            self.state.steps = self._steps.all()
            self.state.services = [*self._supervisor.states(), *self._jobs.values()]
            write_state(self.layout.state_file, self.state)
            self.on_steps(self.state.steps)

    def _rotate_logs(self) -> None:
        """Keep one older file of each log that has become large."""
        for log in self.layout.logs.glob("*.log"):
            if log.stat().st_size > _LARGEST_LOG_BYTES:
                log.replace(log.with_suffix(".log.1"))
