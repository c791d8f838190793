"""What several commands need of the stack that runs."""

import os
from dataclasses import dataclass

from launcher.errors import LauncherError
from launcher.layout import Layout
from launcher.ports import LOOPBACK
from launcher.prometheus import HOW_TO_GET, find_prometheus
from launcher.service_env import service_env
from launcher.state import StackState, read_state


@dataclass(frozen=True)
class RunningStack:
    """A stack that runs, with the environment that programs get that work with it."""

    layout: Layout
    state: StackState
    env: dict[str, str]


def running_stack() -> RunningStack:
    """Return the stack of this state folder.

    Raises:
        LauncherError: where it does not run.
    """
    layout = Layout.from_environment()
    state = read_state(layout.state_file)
    if state is None or not state.is_running():
        raise LauncherError(not_running(state))
    return RunningStack(layout, state, service_env(os.environ, layout, state.ports))


def not_running(state: StackState | None) -> str:
    """Put into a sentence that nothing runs, or what a killed launcher left."""
    left = [name for name, _ in state.leftovers()] if state else []
    if left:
        return (
            f"The launcher was killed and left {', '.join(reversed(left))} running. "
            "./run up ends them and starts anew; ./run down ends them."
        )
    return "Recstream is not running. Start it with ./run up"


def urls(state: StackState) -> list[tuple[str, str]]:
    """Return what a person may want to open or connect to: (what, where)."""
    api = f"http://{LOOPBACK}:{state.ports.api}"
    return [
        ("Page", f"http://{LOOPBACK}:{state.ports.ui}"),
        ("API", api),
        ("API documentation", f"{api}/docs"),
        ("Prometheus", _prometheus(state)),
        ("Kafka", f"{LOOPBACK}:{state.ports.kafka}"),
        ("PostgreSQL", f"{LOOPBACK}:{state.ports.postgres}, database sasrec (./run psql)"),
    ]


def _prometheus(state: StackState) -> str:
    if any(service.name == "prometheus" for service in state.services):
        return f"http://{LOOPBACK}:{state.ports.prometheus}"
    return HOW_TO_GET if find_prometheus() is None else "not started"
