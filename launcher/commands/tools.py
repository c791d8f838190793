"""Commands that run one more program: train, evaluate, seed, worker, psql; and `env` for a shell."""

import os
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from contextlib import ExitStack
from types import FrameType

import typer
from filelock import FileLock, Timeout
from rich.console import Console

from launcher.commands.running import RunningStack, running_stack
from launcher.commands.up import signals_to
from launcher.errors import Interrupted, LauncherError
from launcher.layout import CHECKOUT, Layout
from launcher.marts import dbt_command, dbt_env
from launcher.ports import Ports, is_free
from launcher.prometheus import add_target, prometheus_folder
from launcher.service_env import password_file, service_env, service_variables, trainer_env, worker_env
from launcher.services import python_module
from launcher.state import read_state
from launcher.steps import StepDisplay
from recstream.ops import ports as default_ports

PASS_ON = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}
"""Typer's settings for commands whose options are another program's."""
_MOST_WORKERS = 200
_LOOK_S = 0.5


def train(context: typer.Context) -> None:
    """Train a model on what is stored and put it into service. Options are the trainer's.

    Without a running stack, Kafka and PostgreSQL are started for so long.
    """
    _run("trainer", context.args, memory_kept=True)


def evaluate(context: typer.Context) -> None:
    """Train and measure beside baselines, on a public set's file or on what is stored. Nothing goes into service.

    With --data FILE it needs no stack. Without, it reads the database, which is started for so long where none runs.
    """
    if any(argument.split("=")[0] == "--data" for argument in context.args):
        command = python_module("trainer.evaluate", *context.args)
        os.execve(command[0], command, trainer_env(os.environ))  # noqa: S606
    _run("trainer.evaluate", context.args, memory_kept=True)


def seed(context: typer.Context) -> None:
    """Load interactions: the demo's, MovieLens, or a CSV file. Options are the seeder's.

    Without a running stack, Kafka and PostgreSQL are started for so long.
    """
    _run("seeder", context.args, memory_kept=False)


def dlq(context: typer.Context) -> None:
    """List, show and send once more the records that were set aside: ./run dlq list.

    Without a running stack, Kafka and PostgreSQL are started for so long.
    """
    _run("admin", ["dlq", *context.args], memory_kept=False)


def marts(context: typer.Context) -> None:
    """Bring the marts up to date now, instead of at the next full hour. Options are those of dbt build.

    Another dbt command may stand before them: ./run marts run, test, docs generate, source freshness.
    """
    stack = running_stack()
    command = dbt_command("once", *context.args)
    os.execve(command[0], command, dbt_env(stack.env, stack.layout))  # noqa: S606


def env() -> None:
    """Print the running stack's variables for a shell, for psql and for programs of your own."""
    stack = running_stack()
    for name, value in {**service_variables(stack.layout, stack.state.ports), **_psql_env(stack)}.items():
        typer.echo(f"export {name}={shlex.quote(value)}")


def psql(context: typer.Context) -> None:
    """Open the database in psql. Options are psql's."""
    from launcher.postgres import find_binaries  # Here, because it would slow every command down.

    stack = running_stack()
    bundled = find_binaries() / "psql"
    program = str(bundled) if bundled.exists() else shutil.which("psql")
    if program is None:
        raise LauncherError(
            "There is no psql on this machine. Install one (Debian: apt-get install postgresql-client)."
        )
    os.execve(program, [program, *context.args], {**os.environ, **_psql_env(stack)})  # noqa: S606


def worker() -> None:
    """Run one more worker in the foreground, until Ctrl-C or until the stack stops.

    It gets the first id (worker-2, ...) and metrics port that are free.
    """
    stack = running_stack()
    with ExitStack() as held:
        number, port = _claim_worker(stack, held)
        name = f"worker-{number}"
        target = add_target(prometheus_folder(stack.layout), "worker", name, port)
        held.callback(target.unlink, missing_ok=True)
        typer.echo(f"{name} starts; its metrics are on port {port}. Ctrl-C stops it.")
        process = subprocess.Popen(
            python_module("worker"), env=worker_env(stack.env, name, port), cwd=CHECKOUT, start_new_session=True
        )

        def stop(number: int, frame: FrameType | None) -> None:
            process.terminate()

        for received in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(received, stop)
        while process.poll() is None:
            if not stack.state.is_running():
                typer.echo(f"The stack has stopped, so {name} stops too.")
                process.terminate()
                process.wait()
            time.sleep(_LOOK_S)
    raise typer.Exit(process.returncode if process.returncode >= 0 else 128 - process.returncode)


def _claim_worker(stack: RunningStack, held: ExitStack) -> tuple[int, int]:
    """Return the number and metrics port of a worker that nobody else runs, and hold them while `held` is open."""
    stack.layout.runtime.mkdir(parents=True, exist_ok=True)
    own = stack.state.ports.workers
    offset = own[0] - default_ports.WORKER_METRICS
    for number in range(len(own) + 1, _MOST_WORKERS):
        port = default_ports.WORKER_METRICS + offset + number - 1
        lock = FileLock(stack.layout.runtime / f"worker-{number}.lock")
        try:
            lock.acquire(timeout=0)
        except Timeout:
            continue
        if is_free(port):
            held.callback(lock.release)
            return number, port
        lock.release()
    raise LauncherError("No further worker's port is free.")


def _run(module: str, arguments: list[str], memory_kept: bool) -> None:
    """Run the module against the running stack; where none runs, against Kafka and PostgreSQL for so long."""
    command = python_module(module, *arguments)
    if "--help" in arguments or "-h" in arguments:
        os.execv(command[0], command)  # noqa: S606
    state = read_state(Layout.from_environment().state_file)
    if state is not None and state.is_running():
        environment = running_stack().env
        # It takes over this process: its output, progress, Ctrl-C and exit status are its own.
        os.execve(command[0], command, trainer_env(environment) if memory_kept else environment)  # noqa: S606
    raise typer.Exit(_run_alone(command, memory_kept))


def _run_alone(command: Sequence[str], memory_kept: bool) -> int:
    from launcher.stack import Stack  # Here, because what it imports would slow every other command down.

    layout, ports = Layout.from_environment(), Ports.free(workers=0)
    console = Console(stderr=True)
    with StepDisplay(console) as display:
        stack = Stack(layout, ports, services=False, on_steps=display.update)
        with signals_to(stack):
            try:
                stack.start()
            except Interrupted:
                return 130
    with signals_to(stack):
        try:
            environment = service_env(os.environ, layout, ports)
            process = subprocess.Popen(
                command, env=trainer_env(environment) if memory_kept else environment, start_new_session=True
            )
            while process.poll() is None:
                if stack.stop_requested.wait(_LOOK_S):
                    process.send_signal(signal.SIGINT)
                    process.wait()
        finally:
            stack.stop()
    return process.returncode


def _psql_env(stack: RunningStack) -> dict[str, str]:
    variables = service_variables(stack.layout, stack.state.ports)
    try:
        password = password_file(stack.layout.secrets).read_text(encoding="utf-8").strip()
    except OSError as error:
        raise LauncherError(f"The database's password cannot be read: {error}") from None
    return {
        "PGHOST": variables["POSTGRES_HOST"],
        "PGPORT": variables["POSTGRES_PORT"],
        "PGUSER": variables["POSTGRES_USER"],
        "PGPASSWORD": password,
        "PGDATABASE": variables["POSTGRES_DB"],
    }
