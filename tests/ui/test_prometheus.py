"""The page's queries on a real Prometheus, which watches itself."""

import json
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from launcher.ports import free_ports
from launcher.prometheus import find_prometheus, prometheus_command, prometheus_ready
from tests.monitoring.programs import needs_prometheus
from tests.waiting import eventually
from ui.prometheus_api import PrometheusClient, PrometheusError


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[PrometheusClient]:
    folder = tmp_path_factory.mktemp("prometheus")
    [port] = free_ports(1)
    configuration = folder / "prometheus.yml"
    configuration.write_text(
        json.dumps(
            {
                "global": {"scrape_interval": "1s", "scrape_timeout": "1s"},
                "scrape_configs": [
                    {"job_name": "itself", "static_configs": [{"targets": [f"127.0.0.1:{port}"]}]},
                ],
            }
        )
    )
    program = find_prometheus()
    assert program is not None
    with Path(folder / "log").open("wb") as log:
        running = subprocess.Popen(prometheus_command(program, configuration, folder / "data", port), stderr=log)
    try:
        eventually(lambda: prometheus_ready(port), what="Prometheus")
        client = PrometheusClient(f"http://127.0.0.1:{port}", timeout_seconds=10)
        eventually(lambda: any(series.points[-1][1] == 1 for series in client.query("up", time.time())), what="up")
        yield client
        client.close()
    finally:
        running.terminate()
        running.wait(20)


@needs_prometheus
def test_a_range_has_points_with_labels(client: PrometheusClient) -> None:
    now = time.time()
    [series] = client.query_range("up", now - 60, now, 1)
    assert series.labels["job"] == "itself"
    assert series.points[-1][1] == 1
    assert client.ready()


@needs_prometheus
def test_scalars_and_what_is_no_number(client: PrometheusClient) -> None:
    [scalar] = client.query("scalar(vector(2)) + 1", time.time())
    assert (scalar.labels, scalar.points[0][1]) == ({}, 3)
    [ratio] = client.query("vector(0) / vector(0)", time.time())
    assert ratio.points == []
    assert client.query("nothing_of_that_name", time.time()) == []


@needs_prometheus
def test_a_wrong_expression_is_explained(client: PrometheusClient) -> None:
    with pytest.raises(PrometheusError, match=r"refused the query: .*parse error") as refused:
        client.query("sum(", time.time())
    assert refused.value.reachable


def test_without_prometheus_there_is_a_sentence() -> None:
    [port] = free_ports(1)
    client = PrometheusClient(f"http://127.0.0.1:{port}", timeout_seconds=1)
    assert not client.ready()
    with pytest.raises(PrometheusError, match="cannot be reached") as away:
        client.query("up", time.time())
    assert not away.value.reachable
