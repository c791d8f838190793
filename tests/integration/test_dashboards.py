"""Every panel of every dashboard has data after traffic, every metric is documented and moves, and drift is seen.

Real services, and a real Prometheus with the committed rules.
"""

import json
import subprocess
from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import prometheus_client
import pytest
from confluent_kafka import Producer
from prometheus_client.parser import text_string_to_metric_families

from launcher.layout import CHECKOUT
from launcher.marts import dbt_command, dbt_env
from launcher.ports import free_ports
from launcher.prometheus import add_target, prometheus_command, prometheus_ready, write_configuration
from launcher.service_env import worker_env
from recstream.kafka.settings import KafkaSettings
from recstream.messages.topics import INFERENCE_REQUESTS, SYSTEM_STATUS
from recstream.model.drift import DriftReference, Histogram
from recstream.ops import metrics
from tests.integration.conftest import ITEMS, Process, Services, make_sasrec
from tests.monitoring.programs import needs_prometheus
from tests.waiting import eventually

pytestmark = [pytest.mark.integration, needs_prometheus]

DASHBOARDS = sorted((CHECKOUT / "monitoring" / "grafana" / "dashboards").glob("*.json"))
QUALITY = {"ndcg@10": 0.2, "recall@10": 0.3, "mrr@10": 0.1, "popularity_ndcg@10": 0.1, "popularity_recall@10": 0.2}
SHORT, LONG = 3, 18
"""Lengths of the histories that the model was made on, and of those that make it drift."""


class Monitored:
    """A Prometheus that scrapes the services every second, and two workers' and dbt's processes beside them."""

    def __init__(self, services: Services, folder: Path) -> None:
        self.services = services
        self.port, self.worker_port, self.marts_port = free_ports(3)
        configuration = write_configuration(folder / "prometheus", interval="1s")
        ports = services.infrastructure.ports
        for job, name, port in (
            ("api", "api", ports.api),
            ("db_writer", "db_writer", ports.db_writer),
            ("worker", "worker-watched", self.worker_port),
            ("marts", "marts", self.marts_port),
        ):
            add_target(folder / "prometheus", job, name, port)
        program = Path("prometheus")
        self._log = (folder / "prometheus.log").open("wb")
        self.process = subprocess.Popen(
            prometheus_command(program, configuration, folder / "data", self.port),
            cwd=folder / "prometheus", stdout=self._log, stderr=self._log,
        )  # fmt: skip

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return an instant query's series that are numbers."""
        answer = httpx.post(f"http://127.0.0.1:{self.port}/api/v1/query", data={"query": expression}).json()
        assert answer["status"] == "success", (expression, answer)
        return [series for series in answer["data"]["result"] if series["value"][1] != "NaN"]

    def alerts(self) -> set[str]:
        """Return the alerts that are pending or firing."""
        found = httpx.get(f"http://127.0.0.1:{self.port}/api/v1/alerts").json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in found}

    def close(self) -> None:
        """Stop Prometheus."""
        self.process.terminate()
        self.process.wait(20)
        self._log.close()


@pytest.fixture(scope="module")
def monitored(services: Services, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Monitored]:
    folder = tmp_path_factory.mktemp("monitoring")
    watched = Monitored(services, folder)
    reference = DriftReference(
        history_length=Histogram.by_quantiles(np.full(1000, SHORT)),
        score=Histogram.by_quantiles(np.linspace(-1, 1, 1000)),
    )
    stopped: list[Process] = []
    try:
        # A worker in a group of its own takes every request too, with a window that a test can fill.
        environment = worker_env(services.env, "worker-watched", watched.worker_port)
        drift = {"WORKER_DRIFT_WINDOW": "40", "WORKER_GROUP": "watched"}
        stopped.append(services.start("worker-watched", "worker", environment | drift))
        marts = dbt_env(services.env, services.infrastructure.layout)
        marts_log = folder / "marts.log"
        with marts_log.open("wb") as log:
            environment = marts | {"MARTS_METRICS_PORT": str(watched.marts_port)}
            popen = subprocess.Popen(dbt_command(), env=environment, stdout=log, stderr=log)
            stopped.append(Process("marts", popen, marts_log))
        eventually(lambda: prometheus_ready(watched.port), what="Prometheus")
        announced = services.announce(make_sasrec(services.checkpoints, seed=5, reference=reference), QUALITY)
        services.await_version(announced.model_version)
        yield watched
    finally:
        for process in stopped:
            process.terminate()
        watched.close()


def _traffic(monitored: Monitored, kafka: KafkaSettings) -> None:
    """Send something of everything: answers, fallbacks, bad bodies, unusable records, interactions."""
    services = monitored.services
    for number in range(30):
        assert services.recommend({"history": ITEMS[number % 5 : number % 5 + SHORT]}).status_code == 200
    assert services.recommend({"history": ["nobody-knows-this"]}).status_code == 200
    assert services.recommend({"user_id": "nobody"}).status_code == 200
    assert httpx.post(f"{services.url}/v1/recommendations", json={"k": -1}).status_code == 422
    assert (
        httpx.post(
            f"{services.url}/v1/interactions", json={"user_id": "u", "item_id": ITEMS[0], "event_type": "like"}
        ).status_code
        == 202
    )
    for topic in (INFERENCE_REQUESTS, SYSTEM_STATUS):
        _produce(kafka, topic.name, b"not json")


def _produce(kafka: KafkaSettings, topic: str, value: bytes) -> None:
    producer = Producer(kafka.producer("tests", delivery_timeout_ms=10_000))
    producer.produce(topic, value, key=b"of-the-test")
    assert producer.flush(10) == 0


def test_every_panel_has_data_after_traffic(monitored: Monitored, kafka: KafkaSettings) -> None:
    panels = [
        (f"{file.stem}: {panel['title']}", target["expr"].replace("$__rate_interval", "30s"))
        for file in DASHBOARDS
        for panel in json.loads(file.read_text())["panels"]
        for target in panel["targets"]
    ]
    assert len(panels) >= 60

    def without_data() -> list[str]:
        # Again and again, so that rates have something between two looks.
        _traffic(monitored, kafka)
        return [f"{name}: {expression}" for name, expression in panels if not monitored.query(expression)]

    _until_empty(without_data, within=90)


def test_shifted_traffic_is_drift(monitored: Monitored) -> None:
    services = monitored.services
    psi = 'worker_drift_psi{instance="worker-watched", feature="history_length"}'

    def send(length: int) -> None:
        for _ in range(20):
            assert services.recommend({"history": ITEMS[:length]}).status_code == 200

    def index_after(length: int) -> float:
        send(length)
        series = monitored.query(psi)
        return float(series[0]["value"][1]) if series else float("nan")

    eventually(lambda: index_after(SHORT) < 0.1, within=60, what="traffic like the model's data")
    eventually(lambda: index_after(LONG) > 0.25, within=60, what="shifted traffic")
    eventually(lambda: "Drift" in monitored.alerts(), within=60, what="the alert")


def test_every_metric_is_documented() -> None:
    documented = (CHECKOUT / "docs" / "monitoring.md").read_text(encoding="utf-8")
    missing = [name for name in _exported_names() if f"`{name}`" not in documented]
    assert missing == []


def test_every_metric_moves_under_traffic(monitored: Monitored, kafka: KafkaSettings) -> None:
    """Each name of recstream/ops/metrics.py is exported with a series by one of the services."""
    ports = monitored.services.infrastructure.ports

    expected = {name.removesuffix("_total") for name in _exported_names()}

    def unseen() -> set[str]:
        _traffic(monitored, kafka)
        found = set()
        for port in (ports.api, ports.db_writer, monitored.worker_port):
            for family in text_string_to_metric_families(httpx.get(f"http://127.0.0.1:{port}/metrics").text):
                if family.samples:
                    found.add(family.name)
        return expected - found

    _until_empty(unseen, within=60)


def _until_empty(look: Callable[[], Collection[str]], within: float) -> None:
    """Wait until `look` finds nothing any more; fail with what it still found."""
    found: Collection[str] = ()

    def is_empty() -> bool:
        nonlocal found
        found = look()
        return not found

    try:
        eventually(is_empty, within=within)
    except AssertionError:
        pytest.fail(f"still there after {within} s: {sorted(found)}")


def _exported_names() -> list[str]:
    """Return every metric's name as Prometheus knows it."""
    names = []
    for metric in vars(metrics).values():
        if isinstance(metric, prometheus_client.Counter):
            names.append(f"{metric._name}_total")
        elif isinstance(metric, prometheus_client.Gauge | prometheus_client.Histogram):
            names.append(metric._name)
    return names
