"""`./run test`: every check that CI makes, in one command."""

import subprocess
import sys
import time

import typer
from rich.console import Console

from launcher.layout import CHECKOUT
from launcher.services import python_module
from launcher.system_packages import FOR_TESTS, install_missing

# Its console script would name the folder in which the virtual environment was made; a checkout may be moved.
_LINT_IMPORTS = "import sys; from importlinter.cli import lint_imports_command; sys.exit(lint_imports_command())"


def test(context: typer.Context) -> None:
    """Check style, types and architecture, then run the tests. Options are pytest's.

    All checks run even if an early one fails; with -x the first failure ends it. Real Kafka and PostgreSQL are started
    on free ports, so it may run beside ./run up. Prometheus and Chromium, which some tests need, are installed by
    apt-get where root calls; elsewhere those tests are skipped, and the end says so.
    """
    console = Console()
    failed = []
    missing = install_missing(FOR_TESTS)
    for name, command in _checks(context.args):
        console.rule(f"[bold]{name}", align="left")
        started = time.monotonic()
        # Whatever the console holds back must stand before what the check prints itself.
        sys.stdout.flush()
        code = subprocess.run(command, cwd=CHECKOUT).returncode
        console.print(f"[dim]{name}: {time.monotonic() - started:.1f} s[/]", highlight=False)
        if code != 0:
            failed.append(name)
            if "-x" in context.args:
                break
    for package, reason in missing:
        console.print(f"[bold yellow]Skipped without {package.name}: {package.needed_for} ({reason}).[/]")
    if failed:
        console.print(f"[bold red]Failed: {', '.join(failed)}[/]")
        raise typer.Exit(1)
    console.print("[bold green]All checks passed.[/]")


def _checks(pytest_arguments: list[str]) -> list[tuple[str, tuple[str, ...]]]:
    return [
        ("ruff check", python_module("ruff", "check")),
        ("ruff format", python_module("ruff", "format", "--check")),
        ("mypy", python_module("mypy")),
        ("import-linter", (sys.executable, "-P", "-c", _LINT_IMPORTS)),
        ("pytest", python_module("pytest", *pytest_arguments)),
    ]
