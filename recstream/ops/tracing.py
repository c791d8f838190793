"""Spans to an OpenTelemetry collector; off, and then free of cost, unless an endpoint is set.

The services pass `traceparent` texts along, through HTTP and Kafka headers, and know nothing else of OpenTelemetry: its
SDK (span_export.py) is imported where tracing is on. docs/observability.md shows the spans of a request.
"""

from collections.abc import Mapping
from types import TracebackType
from typing import TYPE_CHECKING, Literal, Protocol, Self

import structlog
from pydantic import AnyHttpUrl, Field
from pydantic_settings import SettingsConfigDict

from recstream.ops.settings import ServiceSettings

if TYPE_CHECKING:
    from opentelemetry import trace as otel

log = structlog.get_logger()

Kind = Literal["internal", "server", "client", "producer", "consumer"]
Attributes = Mapping[str, str | int | float | bool]


class TracingSettings(ServiceSettings):
    """OpenTelemetry's own variables; those not named here (`OTEL_BSP_...`, headers, certificates) its SDK reads."""

    model_config = SettingsConfigDict(env_prefix="OTEL_", env_ignore_empty=True)

    exporter_otlp_endpoint: AnyHttpUrl | None = None
    """Where the collector is; `/v1/traces` is appended. Tracing is off without it (or the one below)."""
    exporter_otlp_traces_endpoint: AnyHttpUrl | None = None
    """Where traces go, as it is; before the one above."""
    exporter_otlp_protocol: Literal["http/protobuf"] = "http/protobuf"
    traces_exporter: Literal["otlp", "none"] = "otlp"
    sdk_disabled: bool = False
    traces_sampler: Literal[
        "always_on",
        "always_off",
        "traceidratio",
        "parentbased_always_on",
        "parentbased_always_off",
        "parentbased_traceidratio",
    ] = "parentbased_always_on"
    traces_sampler_arg: float = Field(default=1.0, ge=0, le=1)
    """The share of traces to keep, for the samplers with a ratio."""

    @property
    def traces_url(self) -> str | None:
        """Where spans go, or None where tracing is off."""
        if self.sdk_disabled or self.traces_exporter == "none":
            return None
        if self.exporter_otlp_traces_endpoint is not None:
            return str(self.exporter_otlp_traces_endpoint)
        if self.exporter_otlp_endpoint is not None:
            return str(self.exporter_otlp_endpoint).rstrip("/") + "/v1/traces"
        return None


class Span:
    """A stage of a request that has begun; as a context manager it ends with its block, failed where that raises."""

    __slots__ = ("_parent", "made")

    def __init__(self, parent: str | None, made: "otel.Span | None" = None) -> None:
        self._parent = parent
        self.made = made
        """OpenTelemetry's own span; None where tracing is off."""

    @property
    def traceparent(self) -> str | None:
        """What the next stage names as its parent: this span or, with tracing off, what this one was given."""
        if self.made is None:
            return self._parent
        context = self.made.get_span_context()
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{context.trace_flags:02x}"

    def rename(self, name: str) -> None:
        """Give it a better name, known only later."""
        if self.made is not None:
            self.made.update_name(name)

    def set(self, name: str, value: str | int) -> None:
        """Set an attribute."""
        if self.made is not None:
            self.made.set_attribute(name, value)

    def end(self, error: str | None = None, *, end_ns: int | None = None) -> None:
        """End it now or at a time of the past (nanoseconds since the epoch), failed where `error` names a kind."""
        if self.made is None:
            return
        if error is not None:
            from opentelemetry.trace import StatusCode

            self.made.set_attribute("error.type", error)
            self.made.set_status(StatusCode.ERROR)
        self.made.end(end_ns)

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        """End it."""
        self.end(kind.__name__ if kind is not None else None)


class SpanMaker(Protocol):
    """What makes spans where tracing is on."""

    def start(
        self, name: str, kind: Kind, parent: Span | str | None, attributes: Attributes | None, start_ns: int | None
    ) -> Span:
        """Begin a span."""

    def close(self) -> None:
        """Send what is left, for a few seconds at most."""


class Tracer:
    """Begins spans. One that is off begins none and hands every parent on as it came."""

    def __init__(self, maker: SpanMaker | None = None) -> None:
        self._maker = maker

    @property
    def on(self) -> bool:
        """Whether spans are made."""
        return self._maker is not None

    def start(
        self,
        name: str,
        kind: Kind,
        parent: Span | str | None,
        attributes: Attributes | None = None,
        *,
        start_ns: int | None = None,
    ) -> Span:
        """Begin a span, now or at a time of the past (nanoseconds since the epoch).

        `parent` is a span of this process or a valid traceparent; without one a trace begins here.
        """
        if self._maker is None:
            return Span(parent.traceparent if isinstance(parent, Span) else parent)
        return self._maker.start(name, kind, parent, attributes, start_ns)

    def close(self) -> None:
        """Send what is left, for a few seconds at most. Blocks."""
        if self._maker is not None:
            self._maker.close()


def start_tracing(service: str, settings: TracingSettings, *, instance: str) -> Tracer:
    """Return the tracer of this process, which is one `instance` of `service`; close it at the end.

    Connects to nothing: spans are sent from a thread, and what cannot be sent is dropped and logged.
    """
    url = settings.traces_url
    if url is None:
        return Tracer()
    from recstream.ops.span_export import SpanExport, otlp_exporter

    log.info("tracing.on", endpoint=url, sampler=settings.traces_sampler)
    return Tracer(SpanExport(otlp_exporter(url), service, settings, instance=instance))
