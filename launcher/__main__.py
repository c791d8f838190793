"""`python -m launcher`, which `./run` hands over to."""

import sys

from rich.console import Console

from launcher.cli import app
from launcher.errors import LauncherError, tail


def main() -> None:
    """Run the command; an expected failure ends in a sentence, the log's last lines, and exit status 1."""
    try:
        app(prog_name="./run")
    except LauncherError as error:
        console = Console(stderr=True)
        console.print(f"[bold red]error:[/] {error}", highlight=False, soft_wrap=True)
        if error.log is not None:
            console.print(f"Last lines of {error.log}:", highlight=False, soft_wrap=True)
            for line in tail(error.log):
                console.print(f"  {line}", style="dim", markup=False, highlight=False, soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
