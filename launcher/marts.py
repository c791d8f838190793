"""dbt beside the stack: a service that brings the marts up to date by the clock, and the same for once."""

from collections.abc import Mapping
from pathlib import Path

from launcher.errors import LauncherError
from launcher.layout import CHECKOUT, Layout
from launcher.ports import LOOPBACK, Ports
from launcher.service import ServiceSpec
from launcher.services import answers_ready

NAME = "marts"
_PYTHON = CHECKOUT / ".venv-dbt" / "bin" / "python"
_SCRIPT = CHECKOUT / "dbt" / "schedule.py"


def dbt_command(*arguments: str) -> tuple[str, ...]:
    """Return the command that runs dbt/schedule.py in dbt's own environment.

    Raises LauncherError where that is missing; `./run` makes it.
    """
    if not _PYTHON.exists():
        raise LauncherError(f"dbt is not installed in {_PYTHON.parent.parent}; ./run marts installs it.")
    return (str(_PYTHON), str(_SCRIPT), *arguments)


def dbt_env(base: Mapping[str, str], layout: Layout) -> dict[str, str]:
    """Return the environment: what dbt writes beside the tables goes to the state folder."""
    folder = dbt_folder(layout)
    return {**base, "DBT_TARGET_PATH": str(folder / "target"), "DBT_LOG_PATH": str(folder / "logs")}


def dbt_folder(layout: Layout) -> Path:
    """Return where dbt's compiled queries, logs and documentation lie."""
    return layout.runtime / "dbt"


def marts_spec(layout: Layout, ports: Ports, env: Mapping[str, str]) -> ServiceSpec:
    """Return how the service starts: it runs dbt at once, so it comes when the rest is ready.

    Raises LauncherError where dbt is not installed.
    """
    own = {"MARTS_METRICS_HOST": LOOPBACK, "MARTS_METRICS_PORT": str(ports.marts)}
    return ServiceSpec(
        name=NAME,
        command=dbt_command(),
        env={**dbt_env(env, layout), **own},
        log=layout.log(NAME),
        cwd=CHECKOUT,
        port=ports.marts,
        ready=lambda: answers_ready(ports.marts),
        # dbt may end a statement first.
        grace_s=10,
    )
