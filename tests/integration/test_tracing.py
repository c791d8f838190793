"""One trace a request across the real processes, in the spans they export and in the lines they log."""

import json
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest
from confluent_kafka import Producer

from launcher.infrastructure import LocalInfrastructure
from recstream.kafka.admin import ensure_topics
from recstream.kafka.settings import KafkaSettings
from recstream.messages.codec import encode
from recstream.messages.envelope import event_headers
from recstream.messages.identifiers import new_request_id
from recstream.messages.inference import InferenceRequested
from recstream.messages.topics import INFERENCE_REQUESTS, TOPICS
from tests.integration.conftest import Services, running_services
from tests.otlp_collector import Collector, SeenSpan, collecting
from tests.waiting import eventually

pytestmark = pytest.mark.integration

_CLIENTS_SPAN = "00f067aa0ba902b7"
_LAST = ("db_writer", "process inference.results")
# Each stage, its kind, and the stage it continues; None is the client.
_STAGES = {
    ("api", "POST /v1/recommendations"): ("server", None),
    ("api", "create inference.requests"): ("producer", ("api", "POST /v1/recommendations")),
    ("api", "wait for result"): ("internal", ("api", "POST /v1/recommendations")),
    ("api", "send inference.requests"): ("client", ("api", "create inference.requests")),
    ("worker", "wait on inference.requests"): ("internal", ("api", "create inference.requests")),
    ("worker", "process inference.requests"): ("consumer", ("api", "create inference.requests")),
    ("worker", "inference"): ("internal", ("worker", "process inference.requests")),
    ("worker", "send inference.results"): ("producer", ("worker", "process inference.requests")),
    ("db_writer", "wait on inference.results"): ("internal", ("worker", "send inference.results")),
    _LAST: ("consumer", ("worker", "send inference.results")),
}


@pytest.fixture(scope="module")
def own_infrastructure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalInfrastructure]:
    """Return a broker and a database of these tests alone: on shared topics untraced services would answer, too."""
    with LocalInfrastructure(tmp_path_factory.mktemp("tracing")) as running:
        ensure_topics(KafkaSettings(bootstrap_servers=running.bootstrap_servers), TOPICS)
        yield running


@pytest.fixture(scope="module")
def collector() -> Iterator[Collector]:
    with collecting() as running:
        yield running


@pytest.fixture(scope="module")
def pipeline(
    own_infrastructure: LocalInfrastructure, collector: Collector, request: pytest.FixtureRequest
) -> Iterator[Services]:
    """Return the services with tracing `on` or `off`, and with every line of their logs, as JSON."""
    settings = KafkaSettings(bootstrap_servers=own_infrastructure.bootstrap_servers)
    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": collector.url,
        "OTEL_SDK_DISABLED": str(request.param == "off"),
        "OTEL_BSP_SCHEDULE_DELAY": "100",
        "LOG_FORMAT": "json",
        "LOG_LEVEL": "debug",
    }
    with running_services(own_infrastructure, settings, variables) as running:
        yield running


_on = pytest.mark.parametrize("pipeline", ["on"], indirect=True)
_off = pytest.mark.parametrize("pipeline", ["off"], indirect=True)


def _whole(collector: Collector, trace_id: str, last: tuple[str, str] = _LAST) -> dict[tuple[str, str], SeenSpan]:
    """Wait for a trace's last stage and return all of them; each exporter sends on its own, so ask for all three."""
    spans = eventually(
        lambda: (
            (found := collector.trace(trace_id))
            and last in {span.stage for span in found}
            and {span.service for span in found} == {"api", "worker", "db_writer"}
            and ("api", "POST /v1/recommendations") in {span.stage for span in found}
            and ("worker", "send inference.results") in {span.stage for span in found}
            and found
        ),
        what=f"the spans of {trace_id}",
    )
    assert isinstance(spans, list)
    stages = {span.stage: span for span in spans}
    assert len(stages) == len(spans), "each stage once"
    return stages


def _lines(services: Services, name: str, request_id: str) -> list[dict[str, object]]:
    log = next(process.log for process in services.processes if process.name == name)
    return [line for line in map(json.loads, _complete_lines(log)) if line.get("request_id") == request_id]


def _complete_lines(log: Path) -> list[str]:
    return [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]


@_on
def test_one_request_is_one_trace_through_every_stage(pipeline: Services, collector: Collector) -> None:
    # The unsampled one first: once the spans of the second are here, none of the first can still be under way.
    unsampled, trace_id = uuid.uuid4().hex, uuid.uuid4().hex
    answer = pipeline.recommend({"history": ["1"]}, headers={"traceparent": f"00-{unsampled}-{_CLIENTS_SPAN}-00"})
    assert answer.json()["status"] == "COMPLETED"
    answer = pipeline.recommend({"history": ["1"]}, headers={"traceparent": f"00-{trace_id}-{_CLIENTS_SPAN}-01"})
    body = answer.json()
    assert body["status"] == "COMPLETED"

    stages = _whole(collector, trace_id)
    names = {span.span_id: stage for stage, span in stages.items()} | {_CLIENTS_SPAN: None}
    assert {stage: (span.kind, names[span.parent_id]) for stage, span in stages.items()} == _STAGES
    assert not any(span.failed for span in stages.values())
    assert all(span.start_ns <= span.end_ns for span in stages.values())
    assert collector.trace(unsampled) == []
    assert set(collector.paths) == {"/v1/traces"}

    request_id, version = body["request_id"], body["result"]["model_version"]
    server, processed = stages[("api", "POST /v1/recommendations")], stages[("worker", "process inference.requests")]
    assert server.attributes["http.response.status_code"] == 200
    assert server.attributes["http.route"] == "/v1/recommendations"
    assert processed.attributes["messaging.system"] == "kafka"
    assert processed.attributes["messaging.consumer.group.name"] == "worker"
    assert stages[("worker", "inference")].attributes["recstream.model_version"] == version
    for stage in (("api", "create inference.requests"), ("worker", "process inference.requests"), _LAST):
        assert stages[stage].attributes["recstream.request_id"] == request_id

    for service in ("api", "worker-1", "db_writer"):
        lines = eventually(lambda service=service: _lines(pipeline, service, request_id), what=f"{service}'s lines")  # type: ignore[misc]
        assert {line["trace_id"] for line in lines} == {trace_id}
        ended = next(line for line in lines if line["event"] == "request.ended")
        assert ended["model_version"] == version
        assert ended["service"] == service.removesuffix("-1")
        assert ended["level"] == "debug"


@_on
def test_a_failed_request_is_seen_in_its_trace_and_in_the_logs(pipeline: Services, collector: Collector) -> None:
    trace_id, request_id = uuid.uuid4().hex, new_request_id()
    with pipeline.connect() as connection:
        connection.execute(
            "INSERT INTO predictions (request_id, status, request_json, created_at)"
            " VALUES (%s, 'PENDING', '{}', now())",
            (request_id,),
        )
    plain = Producer(pipeline.kafka.client("tests"))
    traceparent = f"00-{trace_id}-{_CLIENTS_SPAN}-01"
    plain.produce(
        INFERENCE_REQUESTS.name,
        key=str(request_id).encode(),
        value=b"not json",
        headers={"traceparent": traceparent.encode()},
    )
    plain.flush()
    eventually(lambda: _LAST in {span.stage for span in collector.trace(trace_id)}, what="the writer's span")
    eventually(
        lambda: (
            [span.stage for span in collector.trace(trace_id) if span.failed]
            == [("worker", "process inference.requests")]
        ),
        what="the worker's failed span",
    )
    for service, event in (
        ("worker-1", "record.set_aside"),
        ("worker-1", "request.failed"),
        ("db_writer", "request.failed"),
    ):
        line = next(line for line in _lines(pipeline, service, str(request_id)) if line["event"] == event)
        assert (line["trace_id"], line["level"]) == (trace_id, "warning")


@_on
def test_what_the_relay_publishes_stays_in_its_trace(pipeline: Services, collector: Collector) -> None:
    trace_id, request_id = uuid.uuid4().hex, new_request_id()
    message = InferenceRequested(request_id=request_id, history=["1"], k=3)
    traceparent = f"00-{trace_id}-{_CLIENTS_SPAN}-01"
    headers = event_headers(InferenceRequested, "api", event_id=str(request_id), traceparent=traceparent)
    with pipeline.connect() as connection:
        connection.execute(
            "INSERT INTO predictions (request_id, status, request_json, created_at)"
            " VALUES (%s, 'PENDING', '{}', now())",
            (request_id,),
        )
        connection.execute(
            "INSERT INTO outbox (topic, key, payload, headers, created_at)"
            " VALUES (%s, %s, %s, %s, now() - interval '1 hour')",
            (
                INFERENCE_REQUESTS.name,
                str(request_id).encode(),
                encode(message),
                json.dumps({name: value.decode() for name, value in headers}),
            ),
        )
    relayed = ("api", "send inference.requests")
    eventually(
        lambda: {relayed, ("worker", "inference"), _LAST} <= {span.stage for span in collector.trace(trace_id)},
        what="the relay's, the worker's and the writer's spans",
    )
    sent = next(span for span in collector.trace(trace_id) if span.stage == relayed)
    assert sent.parent_id == _CLIENTS_SPAN


@_on
def test_interactions_are_followed_to_the_table(pipeline: Services, collector: Collector) -> None:
    trace_id = uuid.uuid4().hex
    answer = httpx.post(
        f"{pipeline.url}/v1/interactions",
        json={"user_id": "u", "item_id": "1", "event_type": "view"},
        headers={"traceparent": f"00-{trace_id}-{_CLIENTS_SPAN}-01"},
    )
    assert answer.status_code == 202
    stages = {
        ("api", "POST /v1/interactions"),
        ("api", "send activity.events"),
        ("db_writer", "wait on activity.events"),
        ("db_writer", "process activity.events"),
    }
    eventually(lambda: {span.stage for span in collector.trace(trace_id)} == stages, what=f"{stages}")


@_on
def test_a_collector_that_refuses_costs_spans_and_nothing_else(pipeline: Services, collector: Collector) -> None:
    log = next(process.log for process in pipeline.processes if process.name == "worker-1")
    with collector.refusing():
        for _ in range(3):
            assert pipeline.recommend({"history": ["1"]}).json()["status"] == "COMPLETED"
        eventually(lambda: "tracing.export.failed" in log.read_text(), what="a line about the lost spans")
        assert pipeline.recommend({"history": ["1"]}).json()["status"] == "COMPLETED"
    trace_id = uuid.uuid4().hex
    pipeline.recommend({"history": ["1"]}, headers={"traceparent": f"00-{trace_id}-{_CLIENTS_SPAN}-01"})
    _whole(collector, trace_id)
    assert log.read_text().count("tracing.export.failed") == 1
    assert log.read_text().count("tracing.export.recovered") == 1


@_off
def test_with_tracing_off_nothing_is_exported_and_the_logs_still_name_the_clients_trace(
    pipeline: Services, collector: Collector
) -> None:
    before, trace_id = collector.traces(), uuid.uuid4().hex
    answer = pipeline.recommend({"history": ["1"]}, headers={"traceparent": f"00-{trace_id}-{_CLIENTS_SPAN}-01"})
    assert answer.json()["status"] == "COMPLETED"
    request_id = answer.json()["request_id"]
    for service in ("api", "worker-1", "db_writer"):
        lines = eventually(lambda service=service: _lines(pipeline, service, request_id))  # type: ignore[misc]
        assert {line["trace_id"] for line in lines} == {trace_id}
    pipeline.close()  # and with each process, whatever it might have had to flush
    assert collector.traces() == before
