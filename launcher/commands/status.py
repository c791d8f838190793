"""`./run status` and `./run logs`: what runs, and what it says."""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table

from launcher.commands.running import not_running, urls
from launcher.errors import LauncherError, tail
from launcher.layout import Layout
from launcher.service import describe_exit
from launcher.state import Phase, ServiceState, StackState, Status, read_state

_FOLLOW_S = 0.3
_STYLES = {Status.READY: "green", Status.STARTING: "yellow", Status.RESTARTING: "red"}


def status(
    as_json: Annotated[bool, typer.Option("--json", help="Print everything as JSON, for programs.")] = False,
) -> None:
    """Show every service: its state, process, port, restarts, and how it ended last.

    Exits with 0 where everything is up, with 1 otherwise.
    """
    state = read_state(Layout.from_environment().state_file)
    running = state is not None and state.is_running()
    if as_json:
        typer.echo(msgspec.json.format(msgspec.json.encode({"running": running, "state": state})))
    elif state is None or not running:
        typer.echo(not_running(state))
        if state is not None and state.error:
            typer.echo(f"The last start failed: {state.error}")
    else:
        _print_table(Console(), state)
    if not (running and state is not None and state.phase is Phase.READY):
        raise typer.Exit(1)


def logs(
    service: Annotated[str | None, typer.Argument(help="Whose log; all logs by default.")] = None,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", help="How many of the last lines.", min=0)] = 50,
) -> None:
    """Show the last lines of a service's log, or of all.

    Services: ui, api, worker-1, db_writer, kafka, postgres, prometheus, trainer, seeder, migrate, topics, launcher.
    """
    folder = Layout.from_environment().logs
    found = {path.stem: path for path in sorted(folder.glob("*.log"))}
    if service is not None and service not in found:
        raise LauncherError(
            f"There is no log of '{service}'. There are: {', '.join(found)}"
            if found
            else f"There are no logs in {folder} yet. Start with ./run up"
        )
    chosen = found if service is None else {service: found[service]}
    width = max((len(name) for name in chosen), default=0)
    prefixes = {path: "" if service else f"{name:{width}} | " for name, path in chosen.items()}
    ends = {path: path.stat().st_size for path in prefixes}
    for path, prefix in prefixes.items():
        for line in tail(path, lines):
            typer.echo(f"{prefix}{line}")
    while follow:
        try:
            for path, prefix in prefixes.items():
                for line in _new_lines(path, ends):
                    typer.echo(f"{prefix}{line}")
            time.sleep(_FOLLOW_S)
        except KeyboardInterrupt:
            return


def _new_lines(path: Path, ends: dict[Path, int]) -> Iterator[str]:
    """Yield the complete lines that were written since the offset kept in `ends`."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return
    if size < ends[path]:
        ends[path] = 0
    with path.open("rb") as file:
        file.seek(ends[path])
        complete, newline, _ = file.read(size - ends[path]).rpartition(b"\n")
    ends[path] += len(complete) + len(newline)
    if newline:
        yield from complete.decode("utf-8", errors="replace").splitlines()


def _print_table(console: Console, state: StackState) -> None:
    table = Table(box=None, header_style="bold", pad_edge=False)
    for column in ("service", "state", "pid", "port", "up", "restarts", "last exit"):
        table.add_column(column, justify="right" if column in ("pid", "port", "up", "restarts") else "left")
    for service in state.services:
        if service.status is not Status.FINISHED:
            table.add_row(*_row(service))
    console.print(f"Recstream is {state.phase}, started {_age(state.started_at)} ago.")
    console.print(table)
    for warning in state.warnings:
        console.print(f"[yellow]{warning}[/]")
    for what, where in urls(state):
        console.print(f"{what}: {where}", highlight=False)


def _row(service: ServiceState) -> tuple[str, ...]:
    style = _STYLES.get(service.status, "dim")
    return (
        service.name,
        f"[{style}]{service.status}[/]",
        str(service.process.pid) if service.process else "-",
        str(service.port) if service.port else "-",
        _age(service.started_at) if service.process and service.started_at else "-",
        str(service.restarts),
        describe_exit(service.last_exit) if service.last_exit is not None else "-",
    )


def _age(since: float) -> str:
    seconds = int(time.time() - since)
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min"
    return f"{seconds // 3600} h {seconds % 3600 // 60} min"
