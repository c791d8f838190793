"""Traceparents, settings, and what the tracer makes of both, with an exporter in memory."""

import subprocess
import sys

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode
from pydantic import AnyHttpUrl, ValidationError

from recstream.ops.span_export import Outlet, SpanExport
from recstream.ops.traceparent import trace_id_of, valid_traceparent
from recstream.ops.tracing import Tracer, TracingSettings, start_tracing

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
SAMPLED, UNSAMPLED = f"00-{TRACE}-{SPAN}-01", f"00-{TRACE}-{SPAN}-00"


def _tracer(**settings: object) -> tuple[Tracer, InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    return Tracer(SpanExport(exporter, "tests", TracingSettings.model_validate(settings), instance="1")), exporter


@pytest.mark.parametrize("text", [SAMPLED, UNSAMPLED, f"00-{TRACE}-{SPAN}-03"])
def test_a_valid_traceparent_is_handed_on_as_it_is(text: str) -> None:
    assert valid_traceparent(text) == text
    assert trace_id_of(text) == TRACE


@pytest.mark.parametrize(
    "text",
    [
        None,
        "",
        "00-a-b-01",
        SAMPLED.upper(),
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"{SAMPLED}-more",
        f"{SAMPLED}\n",
        f" {SAMPLED}",
    ],
)
def test_what_is_no_traceparent_is_ignored(text: str | None) -> None:
    assert valid_traceparent(text) is None
    assert trace_id_of(valid_traceparent(text)) is None


def test_a_later_versions_traceparent_is_taken_for_what_this_version_knows_of_it() -> None:
    assert valid_traceparent(f"01-{TRACE}-{SPAN}-01-what-comes") == SAMPLED


@given(st.text())
def test_any_text_is_a_traceparent_or_none(text: str) -> None:
    valid = valid_traceparent(text)
    assert valid is None or valid_traceparent(valid) == valid


def test_tracing_is_off_without_an_endpoint_or_by_the_standard_switches() -> None:
    endpoint = AnyHttpUrl("http://collector:4318")
    assert TracingSettings().traces_url is None
    assert TracingSettings(exporter_otlp_endpoint=endpoint).traces_url == "http://collector:4318/v1/traces"
    assert TracingSettings(exporter_otlp_endpoint=endpoint, sdk_disabled=True).traces_url is None
    assert TracingSettings(exporter_otlp_endpoint=endpoint, traces_exporter="none").traces_url is None


def test_an_endpoint_for_traces_alone_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4318/base/")
    assert TracingSettings().traces_url == "http://collector:4318/base/v1/traces"
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "https://traces.example/in")
    assert TracingSettings().traces_url == "https://traces.example/in"


def test_an_empty_variable_is_no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "")
    monkeypatch.setenv("OTEL_TRACES_SAMPLER_ARG", "")
    assert TracingSettings().traces_url is None


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_TRACES_SAMPLER", "sometimes"),
        ("OTEL_TRACES_SAMPLER_ARG", "2"),
    ],
)
def test_a_setting_that_cannot_be_followed_is_refused(monkeypatch: pytest.MonkeyPatch, name: str, value: str) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(ValidationError):
        TracingSettings()


def test_off_hands_every_parent_on() -> None:
    tracer = start_tracing("tests", TracingSettings(), instance="1")
    assert not tracer.on
    for parent in (None, SAMPLED, UNSAMPLED):
        with tracer.start("outer", "server", parent) as outer:
            inner = tracer.start("inner", "internal", outer)
            inner.set("name", "value")
            inner.end("an error")
        assert outer.traceparent == inner.traceparent == parent
    tracer.close()


@pytest.mark.parametrize("service", ["api", "worker", "db_writer"])
def test_off_imports_nothing_of_the_sdk(service: str) -> None:
    program = f"""
import sys
import {service}.__main__
from recstream.ops.tracing import TracingSettings, start_tracing
tracer = start_tracing("{service}", TracingSettings(), instance="1")
tracer.start("a stage", "internal", None).end("an error")
print([name for name in sys.modules if name.startswith(("opentelemetry.sdk", "opentelemetry.exporter"))])
"""
    said = subprocess.run([sys.executable, "-P", "-c", program], capture_output=True, text=True, check=True).stdout
    assert said == "[]\n"


def test_spans_continue_the_trace_that_they_are_given() -> None:
    tracer, exporter = _tracer()
    with tracer.start("outer", "consumer", SAMPLED, {"a": 1}) as outer:
        tracer.start("inner", "internal", outer).end()
        tracer.start("elsewhere", "internal", outer.traceparent).end()
    tracer.close()
    spans = {span.name: span for span in exporter.get_finished_spans()}
    assert {span.context.trace_id for span in spans.values()} == {int(TRACE, 16)}
    parents = {name: span.parent and (span.parent.span_id, span.parent.is_remote) for name, span in spans.items()}
    outer_id = spans["outer"].context.span_id
    assert parents == {"outer": (int(SPAN, 16), True), "inner": (outer_id, False), "elsewhere": (outer_id, True)}
    assert spans["outer"].kind is SpanKind.CONSUMER
    assert spans["outer"].attributes == {"a": 1}
    assert spans["outer"].resource.attributes["service.name"] == "tests"
    assert valid_traceparent(outer.traceparent) == outer.traceparent


def test_a_span_may_have_been_in_the_past_and_may_have_failed() -> None:
    tracer, exporter = _tracer()
    tracer.start("past", "internal", None, start_ns=1_000).end("queue_full", end_ns=2_000)
    with pytest.raises(ZeroDivisionError), tracer.start("block", "internal", None):
        raise ZeroDivisionError
    tracer.close()
    past, block = exporter.get_finished_spans()
    assert (past.start_time, past.end_time) == (1_000, 2_000)
    for span, kind in ((past, "queue_full"), (block, "ZeroDivisionError")):
        assert span.status.status_code is StatusCode.ERROR
        assert span.attributes == {"error.type": kind}


@pytest.mark.parametrize(
    ("settings", "parent", "kept"),
    [
        ({}, None, True),
        ({}, SAMPLED, True),
        ({}, UNSAMPLED, False),
        ({"traces_sampler": "parentbased_traceidratio", "traces_sampler_arg": 0.0}, None, False),
        ({"traces_sampler": "parentbased_traceidratio", "traces_sampler_arg": 0.0}, SAMPLED, True),
        ({"traces_sampler": "traceidratio", "traces_sampler_arg": 0.0}, SAMPLED, False),
        ({"traces_sampler": "always_on"}, UNSAMPLED, True),
        ({"traces_sampler": "always_off"}, SAMPLED, False),
        ({"traces_sampler": "parentbased_always_off"}, SAMPLED, True),
    ],
)
def test_the_sampler_decides_and_the_next_stage_is_told(
    settings: dict[str, object], parent: str | None, kept: bool
) -> None:
    tracer, exporter = _tracer(**settings)
    span = tracer.start("stage", "internal", parent)
    span.end()
    tracer.close()
    assert len(exporter.get_finished_spans()) == kept
    assert span.traceparent is not None
    assert bool(int(span.traceparent[-2:], 16) & 1) is kept


def test_the_environment_may_name_the_service(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_SERVICE_NAME", "shop-api")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=staging")
    tracer, exporter = _tracer()
    tracer.start("stage", "internal", None).end()
    tracer.close()
    resource = exporter.get_finished_spans()[0].resource.attributes
    assert resource["service.name"] == "shop-api"
    assert resource["deployment.environment.name"] == "staging"
    assert resource["service.namespace"] == "recstream"


class _Refusing(SpanExporter):
    answers = (SpanExportResult.FAILURE, SpanExportResult.FAILURE, SpanExportResult.SUCCESS, SpanExportResult.FAILURE)

    def __init__(self) -> None:
        self._left = list(self.answers)

    def export(self, spans: object) -> SpanExportResult:
        return self._left.pop(0)


def test_an_outage_of_the_collector_is_told_once_with_what_was_lost() -> None:
    tracer, exporter = _tracer()
    for _ in range(2):
        tracer.start("stage", "internal", None).end()
    tracer.close()
    spans = exporter.get_finished_spans()
    outlet = Outlet(_Refusing())
    with structlog.testing.capture_logs() as lines:
        for _ in _Refusing.answers:
            outlet.export(spans)
        outlet.shutdown()
    assert [(line["event"], line.get("spans_lost")) for line in lines] == [
        ("tracing.export.failed", None),
        ("tracing.export.recovered", 4),
        ("tracing.export.failed", None),
        ("tracing.spans_lost", 2),
    ]
