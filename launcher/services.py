"""How Recstream's own services start: each a Python process that answers `/health/ready` on its port."""

import sys
from collections.abc import Mapping

from launcher.layout import CHECKOUT, Layout
from launcher.ports import LOOPBACK, Ports
from launcher.service import ServiceSpec
from launcher.service_env import scheduler_env, ui_env, worker_env


def python_module(module: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a module of this project with this Python.

    Without the working directory on the path (-P): a folder there must not shadow an installed package.
    """
    return (sys.executable, "-P", "-m", module, *arguments)


def answers_ready(port: int) -> bool:
    """Tell whether the service at the port says that it is ready."""
    import httpx  # Here, because it would slow every command down.

    try:
        # trust_env off: a proxy of the environment is for other addresses than this machine's own.
        return httpx.get(f"http://{LOOPBACK}:{port}/health/ready", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def own_services(layout: Layout, ports: Ports, env: Mapping[str, str]) -> list[ServiceSpec]:
    """Return the services in the order of their starts: who takes requests comes last, and so stops first."""
    workers = [
        _spec(layout, f"worker-{number}", "worker", port, worker_env(env, f"worker-{number}", port))
        for number, port in enumerate(ports.workers, start=1)
    ]
    scheduler = scheduler_env(env)
    return [
        *([] if scheduler is None else [_scheduler(layout, scheduler)]),
        _spec(layout, "db_writer", "db_writer", ports.db_writer, env),
        *workers,
        _spec(layout, "api", "api", ports.api, env),
        _spec(layout, "ui", "ui", ports.ui, ui_env(env, layout)),
    ]


def _scheduler(layout: Layout, env: Mapping[str, str]) -> ServiceSpec:
    """Return the trainer that waits for its times. It has no port, and nothing waits for it."""
    return ServiceSpec(
        name="trainer",
        command=python_module("trainer"),
        env=env,
        log=layout.log("trainer"),
        cwd=CHECKOUT,
        ready=lambda: True,
        grace_s=60.0,
    )


def _spec(layout: Layout, name: str, module: str, port: int, env: Mapping[str, str]) -> ServiceSpec:
    return ServiceSpec(
        name=name,
        command=python_module(module),
        env=env,
        log=layout.log(name),
        cwd=CHECKOUT,
        port=port,
        ready=lambda: answers_ready(port),
        ready_timeout_s=90,
    )
