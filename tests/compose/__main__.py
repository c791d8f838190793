"""`tests/compose/run`: the whole scenario, its table, and on request the record in docs/compose.md."""

import argparse
import os
import platform
import sys
import tempfile
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path

from rich.console import Console
from rich.table import Table

from tests.compose.scenario import STEPS, TAGS
from tests.compose.stack import CHECKOUT, ComposeStack, docker

_PAGE = CHECKOUT / "docs" / "compose.md"
_BEGIN, _END = "<!-- last run -->\n", "<!-- end of last run -->\n"


def main() -> int:
    """Run the steps in order until one fails, print the table, take everything down; return the exit status."""
    parser = argparse.ArgumentParser(prog="tests/compose/run", description=__doc__)
    parser.add_argument("--write", action="store_true", help="put the table into docs/compose.md")
    parser.add_argument("--keep", action="store_true", help="leave the stack running, for a look; remove it yourself")
    options = parser.parse_args()
    console = Console(soft_wrap=True, highlight=False)
    rows: list[tuple[str, str, float, str]] = []
    with tempfile.TemporaryDirectory(prefix="recstream-compose-") as folder:
        # The containers' account must be able to enter the bind mounts.
        Path(folder).chmod(0o755)
        stack = ComposeStack(Path(folder))
        try:
            for name, step in STEPS:
                console.print(f"{name} ...")
                started = time.monotonic()
                try:
                    seen, outcome = step(stack), "ok"
                except Exception as error:
                    seen, outcome = f"{type(error).__name__}: {error}"[:500], "FAILED"
                    traceback.print_exc()
                    print(stack.compose("ps", "--all", check=False), stack.compose("logs", "--tail=15", check=False))
                rows.append((name, outcome, time.monotonic() - started, seen))
                console.print(f"  {outcome} ({rows[-1][2]:.0f} s)  {seen}", markup=False)
                if outcome != "ok":
                    break
            engine = docker("version", "--format", "{{.Server.Version}}").strip()
            compose = stack.compose("version", "--short").strip()
        finally:
            if options.keep:
                input(f"{stack.url} runs on, from {stack.folder}. Enter takes it down. ")
            stack.remove(TAGS)
    _print(console, rows)
    if options.write:
        _write(rows, f"Docker {engine}, Compose {compose}, {os.cpu_count()} cores, {platform.machine()}")
    return 0 if len(rows) == len(STEPS) and all(outcome == "ok" for _, outcome, *_ in rows) else 1


def _print(console: Console, rows: list[tuple[str, str, float, str]]) -> None:
    table = Table("step", "", "seconds", "seen")
    for name, outcome, seconds, seen in rows:
        table.add_row(name, outcome, f"{seconds:.0f}", seen)
    console.print(table)


def _write(rows: list[tuple[str, str, float, str]], machine: str) -> None:
    head, _, rest = _PAGE.read_text(encoding="utf-8").partition(_BEGIN)
    _, _, tail = rest.partition(_END)
    lines = [f"{datetime.now(UTC):%Y-%m-%d}, {machine}:\n", "\n", "| step | | s | seen |\n", "|---|---|---|---|\n"]
    for name, outcome, seconds, seen in rows:
        one_line = " ".join(seen.split()).replace("|", "/")
        lines.append(f"| {name} | {outcome} | {seconds:.0f} | {one_line} |\n")
    _PAGE.write_text(head + _BEGIN + "".join(lines) + _END + tail, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(main())
