"""`./run up`: start everything, in the foreground or detached."""

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table

from launcher.commands.running import urls
from launcher.errors import AlreadyRunning, Interrupted, LauncherError
from launcher.layout import CHECKOUT, Layout
from launcher.ports import LOOPBACK, Ports
from launcher.service import describe_exit
from launcher.services import python_module
from launcher.state import Phase, StackState, Status, read_state
from launcher.steps import StepDisplay

if TYPE_CHECKING:
    from launcher.stack import Stack

_LOOK_S = 0.2
_HIGHEST_OFFSET = 50000


def up(
    detach: Annotated[bool, typer.Option("--detach", "-d", help="Return once ready; ./run down stops it.")] = False,
    port_offset: Annotated[
        int, typer.Option(help="Move every port by this much.", min=0, max=_HIGHEST_OFFSET, show_default=True)
    ] = 0,
    workers: Annotated[int, typer.Option(help="How many workers to run.", min=1, max=64)] = 1,
    train: Annotated[bool, typer.Option("--train/--no-train", help="Train a first model where there is none.")] = True,
) -> None:
    """Start Kafka, PostgreSQL and every service, with demo data and a first model where there is none.

    Runs until Ctrl-C, or until ./run down from elsewhere. Data is kept for the next start.
    """
    console = Console()
    layout = Layout.from_environment()
    state = read_state(layout.state_file)
    if state is not None and state.is_running():
        _say_running(console, state)
        return
    if detach:
        options = [f"--port-offset={port_offset}", f"--workers={workers}", "--train" if train else "--no-train"]
        _start_detached(console, layout, options)
    else:
        _run(console, layout, Ports.with_offset(port_offset, workers), train, port_offset)


def _run(console: Console, layout: Layout, ports: Ports, train: bool, port_offset: int) -> None:
    # Here, because what it imports would slow every other command down.
    from launcher.stack import Stack

    stack = Stack(layout, ports, train=train, port_offset=port_offset)
    with signals_to(stack):
        with StepDisplay(console) as display:
            stack.on_steps = display.update
            try:
                stack.start()
            except AlreadyRunning:
                # It started since the look at the state.
                console.print("Recstream is running already; see ./run status")
                return
            except Interrupted:
                raise typer.Exit(130) from None
        if stack.state is not None:
            _say_ready(console, stack.state)
            console.print("\nCtrl-C stops everything; what is stored is kept.")
        seen: dict[str, int] = {}
        # Not Event.wait: the signal handler sets the event in this very thread, which may hold its lock in a wait.
        while not stack.stop_requested.is_set():
            _tell_restarts(console, stack, seen)
            time.sleep(_LOOK_S)
        with StepDisplay(console) as display:
            stack.on_steps = lambda steps: display.update(steps[-1:])
            stack.stop()


@contextmanager
def signals_to(stack: "Stack") -> Iterator[None]:
    """Let Ctrl-C and the like ask the stack to stop; a second one ends its processes at once."""

    def ask(number: int, frame: FrameType | None) -> None:
        if stack.stop_requested.is_set() and number == signal.SIGINT:
            stack.kill()
        stack.stop_requested.set()

    # What is ignored stays ignored: nohup does that to SIGHUP, a shell to SIGINT of what it runs in the background.
    heard = [n for n in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) != signal.SIG_IGN]
    previous = {number: signal.signal(number, ask) for number in heard}
    try:
        yield
    finally:
        for number, handler in previous.items():
            signal.signal(number, handler)


def _tell_restarts(console: Console, stack: "Stack", seen: dict[str, int]) -> None:
    for service in stack.services():
        if service.status is Status.RESTARTING and seen.get(service.name) != service.restarts:
            seen[service.name] = service.restarts
            console.print(f"{service.name} {describe_exit(service.last_exit)} and is started again.", style="yellow")


def _start_detached(console: Console, layout: Layout, options: list[str]) -> None:
    layout.logs.mkdir(parents=True, exist_ok=True)
    log = layout.log("launcher")
    env = {**os.environ, "RECSTREAM_HOME": str(layout.home), "CHECKPOINTS_DIR": str(layout.checkpoints)}
    with log.open("ab") as output:
        launcher = subprocess.Popen(
            python_module("launcher", "up", *options),
            env=env,
            cwd=CHECKOUT,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    state = None
    try:
        with StepDisplay(console) as display:
            while launcher.poll() is None:
                state = read_state(layout.state_file)
                if state is not None and state.launcher.pid == launcher.pid:
                    display.update(state.steps)
                    if state.phase is Phase.READY:
                        break
                time.sleep(_LOOK_S)
            else:
                state = read_state(layout.state_file)
                if state is not None and state.launcher.pid == launcher.pid:
                    display.update(state.steps)
    except KeyboardInterrupt:
        console.print("Interrupted; stopping what has started ...")
        launcher.terminate()
        launcher.wait()
        raise typer.Exit(130) from None
    if state is not None and state.launcher.pid == launcher.pid and state.phase is Phase.READY:
        _say_ready(console, state)
        console.print("\nIt runs in the background: ./run status, ./run logs, ./run down")
    elif launcher.returncode == 0 and state is not None and state.is_running():
        _say_running(console, state)
    else:
        failed = state if state is not None and state.launcher.pid == launcher.pid else None
        raise LauncherError(
            failed.error if failed and failed.error else "The launcher ended before everything was ready.",
            Path(failed.error_log) if failed and failed.error_log else (None if failed and failed.error else log),
        )


def _say_running(console: Console, state: StackState) -> None:
    word = "is running already" if state.phase is Phase.READY else f"is {state.phase} already"
    console.print(f"Recstream {word} (./run status tells more, ./run down stops it).")
    console.print(_urls_table(state))


def _say_ready(console: Console, state: StackState) -> None:
    console.print(f"\n[bold green]Recstream is ready[/] after {state.ready_after_s:.1f} seconds.")
    for warning in state.warnings:
        console.print(f"[yellow]{warning}[/]")
    console.print(_urls_table(state))
    console.print("\nAsk for recommendations:")
    console.print("  ./run request user_1")
    console.print(
        f"  curl -s -H 'Prefer: wait=5' -H 'Content-Type: application/json' "
        f"http://{LOOPBACK}:{state.ports.api}/v1/recommendations -d '{{\"user_id\": \"user_1\"}}'",
        soft_wrap=True, highlight=False,
    )  # fmt: skip


def _urls_table(state: StackState) -> Table:
    table = Table.grid(padding=(0, 2))
    for what, where in urls(state):
        table.add_row(f"  {what}", where)
    return table
