"""Prometheus beside the stack, where it is installed; its configuration, made for this stack's ports.

Nothing needs it: the stack starts and works without.
"""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

import msgspec

from launcher.errors import LauncherError
from launcher.layout import CHECKOUT, Layout
from launcher.ports import LOOPBACK, Ports
from launcher.service import ServiceSpec

VARIABLE = "RECSTREAM_PROMETHEUS"
HOW_TO_GET = f"not installed (Debian: apt-get install prometheus; or {VARIABLE}=/path/to/prometheus)"
RULES = CHECKOUT / "monitoring" / "rules"
JOBS = ("api", "db_writer", "worker", "marts")
"""What `monitoring/prometheus.yml` calls them too; rules and dashboards select by these names."""
_NAME = "prometheus"
_SCRAPE = "5s"


def find_prometheus(environ: Mapping[str, str] = os.environ) -> Path | None:
    """Return the program, or None where there is none.

    Raises:
        LauncherError: where RECSTREAM_PROMETHEUS names something that cannot be run.
    """
    named = environ.get(VARIABLE)
    found = shutil.which(named or _NAME, path=environ.get("PATH"))
    if named and found is None:
        raise LauncherError(f"{VARIABLE}={named} is not a program that can be run.")
    return Path(found) if found else None


def prometheus_folder(layout: Layout) -> Path:
    """Return where the configuration and the targets of this stack lie."""
    return layout.runtime / _NAME


def write_configuration(folder: Path, rules: Path = RULES, interval: str = _SCRAPE) -> Path:
    """Write a configuration without targets yet, forgetting earlier ones; return its file.

    JSON, which is YAML too. Targets are files of their own, because workers come and go.
    """
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "targets").mkdir(parents=True)
    content = {
        "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
        "rule_files": [str(rules / "*.yml")],
        "scrape_configs": [
            {
                "job_name": job,
                "file_sd_configs": [{"files": [f"targets/{job}.*.json"], "refresh_interval": interval}],
            }
            for job in JOBS
        ],
    }
    file = folder / "prometheus.yml"
    file.write_bytes(msgspec.json.format(msgspec.json.encode(content)))
    return file


def add_target(folder: Path, job: str, name: str, port: int) -> Path:
    """Have a process scraped from now on, as the instance `name`; removing the file that is returned ends it."""
    file = folder / "targets" / f"{job}.{name}.json"
    file.parent.mkdir(parents=True, exist_ok=True)
    # Prometheus reads the folder while we write: it must see the whole file.
    unfinished = file.with_suffix(".new")
    unfinished.write_bytes(msgspec.json.encode([{"targets": [f"{LOOPBACK}:{port}"], "labels": {"instance": name}}]))
    return unfinished.rename(file)


def prometheus_spec(program: Path, layout: Layout, ports: Ports) -> ServiceSpec:
    """Write the configuration of this stack and return how its Prometheus is started."""
    folder = prometheus_folder(layout)
    configuration = write_configuration(folder)
    add_target(folder, "api", "api", ports.api)
    add_target(folder, "db_writer", "db_writer", ports.db_writer)
    add_target(folder, "marts", "marts", ports.marts)
    for number, port in enumerate(ports.workers, start=1):
        add_target(folder, "worker", f"worker-{number}", port)
    return ServiceSpec(
        name=_NAME,
        command=prometheus_command(program, configuration, layout.data / _NAME, ports.prometheus),
        env=os.environ,
        log=layout.log(_NAME),
        cwd=folder,
        port=ports.prometheus,
        ready=lambda: prometheus_ready(ports.prometheus),
        ready_timeout_s=30,
    )


def prometheus_command(program: Path, configuration: Path, data: Path, port: int) -> tuple[str, ...]:
    """Return the command: loopback only, two weeks or 2 GB of data."""
    return (
        str(program),
        f"--config.file={configuration}",
        f"--storage.tsdb.path={data}",
        "--storage.tsdb.retention.time=15d",
        "--storage.tsdb.retention.size=2GB",
        f"--web.listen-address={LOOPBACK}:{port}",
        "--log.level=warn",
    )


def prometheus_ready(port: int) -> bool:
    """Tell whether it answers queries."""
    import httpx  # Here, because it would slow every command down.

    try:
        return httpx.get(f"http://{LOOPBACK}:{port}/-/ready", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False
