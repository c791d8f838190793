"""`./run down` and `./run reset`: stop everything; delete what is stored."""

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import psutil
import typer
from filelock import FileLock, Timeout
from rich.console import Console

from launcher.errors import LauncherError
from launcher.layout import Layout
from launcher.state import StackState, end_leftovers, read_state

_PATIENCE_S = 120.0
_LOOK_S = 0.1


def down() -> None:
    """Stop everything that ./run up has started, in the reverse order. What is stored is kept.

    Also ends what a launcher that was killed has left running.
    """
    console = Console()
    layout = Layout.from_environment()
    state = read_state(layout.state_file)
    if state is None or not (state.is_running() or state.leftovers()):
        console.print("Recstream is not running.")
        return
    with console.status("Stopping ...") as status:
        if state.is_running():
            _stop_launcher(layout, state, lambda text: status.update(f"Stopping {text} ..."))
        ended = end_leftovers(state)
    console.print(f"Ended what was left running: {', '.join(ended)}." if ended else "Recstream has stopped.")


def reset(
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")] = False,
) -> None:
    """Delete all stored data, logs and models, to start anew. Asks before.

    Only while Recstream is stopped. Keeps checkpoints/README.md.
    """
    layout = Layout.from_environment()
    layout.home.mkdir(parents=True, exist_ok=True)
    lock = FileLock(layout.lock_file)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise LauncherError("Recstream is running. Stop it first: ./run down") from None
    try:
        if not yes:
            if not sys.stdin.isatty():
                raise LauncherError("Nothing was deleted: confirm with ./run reset --yes")
            typer.confirm(
                f"Delete everything stored in {layout.home} and all models in {layout.checkpoints}?", abort=True
            )
        state = read_state(layout.state_file)
        if state is not None:
            end_leftovers(state)
        empty(layout)
    finally:
        lock.release()
    Console().print(f"{layout.home} and {layout.checkpoints} are empty.")


def empty(layout: Layout) -> None:
    """Delete what a stack stores: its own files in the state folder, nothing else there, and every bundle."""
    from launcher.postgres import PostgresServer  # Here, because it would slow every command down.

    PostgresServer(layout.data / "postgres", layout.log("postgres"), layout.secrets, port=0).remove()
    installation_lock = layout.home / "install.lock"  # of the script `run`
    own = (installation_lock, layout.data, layout.logs, layout.secrets, layout.cache, layout.runtime, layout.state_file)
    bundles = layout.checkpoints.iterdir() if layout.checkpoints.is_dir() else iter(())
    for path in [*own, *(path for path in bundles if path.name != "README.md")]:
        _remove(path)
    layout.lock_file.unlink(missing_ok=True)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _stop_launcher(layout: Layout, state: StackState, report: Callable[[str], None]) -> None:
    launcher = state.launcher.find()
    if launcher is None:
        return
    try:
        launcher.terminate()
    except psutil.AccessDenied:
        owner = launcher.username()
        raise LauncherError(f"Recstream was started by {owner}; only that user or root can stop it.") from None
    deadline = time.monotonic() + _PATIENCE_S
    while state.launcher.find() is not None and time.monotonic() < deadline:
        now = read_state(layout.state_file)
        if now is not None and now.steps and now.steps[-1].detail:
            report(now.steps[-1].detail)
        time.sleep(_LOOK_S)
    if state.launcher.find() is not None:
        launcher.kill()
