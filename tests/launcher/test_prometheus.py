"""Prometheus beside the stack: found or not, and what it is told to scrape."""

import json
import subprocess
from pathlib import Path

import pytest
import yaml

from launcher.errors import LauncherError
from launcher.layout import CHECKOUT, Layout
from launcher.ports import Ports
from launcher.prometheus import (
    JOBS,
    add_target,
    find_prometheus,
    prometheus_folder,
    prometheus_spec,
    write_configuration,
)
from tests.monitoring.programs import needs_promtool

COMPOSE = CHECKOUT / "monitoring" / "prometheus.yml"


def test_the_program_is_found_on_the_path_or_where_the_variable_says(tmp_path: Path) -> None:
    program = tmp_path / "prometheus"
    assert find_prometheus({"PATH": str(tmp_path)}) is None
    program.touch(0o755)
    assert find_prometheus({"PATH": str(tmp_path)}) == program
    assert find_prometheus({"PATH": "/nowhere", "RECSTREAM_PROMETHEUS": str(program)}) == program
    with pytest.raises(LauncherError, match="not a program that can be run"):
        find_prometheus({"PATH": str(tmp_path), "RECSTREAM_PROMETHEUS": str(tmp_path / "other")})


def test_every_process_is_scraped_under_its_own_name(tmp_path: Path) -> None:
    layout, ports = Layout(tmp_path, tmp_path), Ports.with_offset(100, workers=2)
    spec = prometheus_spec(Path("/bin/prometheus"), layout, ports)
    assert "--web.listen-address=127.0.0.1:9190" in spec.command
    found = {}
    for file in (prometheus_folder(layout) / "targets").glob("*.json"):
        [group] = json.loads(file.read_text())
        found[group["labels"]["instance"]] = (file.name.split(".")[0], *group["targets"])
    assert found == {
        "api": ("api", "127.0.0.1:8100"),
        "db_writer": ("db_writer", "127.0.0.1:9201"),
        "marts": ("marts", "127.0.0.1:9171"),
        "worker-1": ("worker", "127.0.0.1:9211"),
        "worker-2": ("worker", "127.0.0.1:9212"),
    }
    # A new start knows nothing of workers that an earlier one had.
    add_target(prometheus_folder(layout), "worker", "worker-9", 1)
    prometheus_spec(Path("/bin/prometheus"), layout, Ports.with_offset(0, workers=1))
    assert {file.name for file in (prometheus_folder(layout) / "targets").iterdir()} == {
        "api.api.json",
        "db_writer.db_writer.json",
        "marts.marts.json",
        "worker.worker-1.json",
    }


def test_compose_has_the_same_jobs() -> None:
    jobs = [job["job_name"] for job in yaml.safe_load(COMPOSE.read_text())["scrape_configs"]]
    assert sorted(jobs) == sorted(JOBS)


@needs_promtool
def test_both_configurations_are_valid(tmp_path: Path) -> None:
    made = write_configuration(tmp_path / "prometheus")
    add_target(tmp_path / "prometheus", "worker", "worker-1", 9111)
    for file in (made, COMPOSE):
        checked = subprocess.run(["promtool", "check", "config", file], capture_output=True, text=True)
        assert checked.returncode == 0, checked.stdout + checked.stderr
