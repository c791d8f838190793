"""OpenTelemetry's SDK behind `recstream.ops.tracing`: sampling, a bounded queue, and sending from a thread."""

import logging
import threading
from collections.abc import Sequence

import structlog
from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider, sampling
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter, SpanExportResult

from recstream.ops.tracing import Attributes, Kind, Span, TracingSettings

log = structlog.get_logger()

_FLUSH_SECONDS = 3.0
"""For the last spans at the end of a process; a collector that is away must not hold it up."""
_NO_PARENT = Context()
_KINDS: dict[Kind, trace.SpanKind] = {
    "internal": trace.SpanKind.INTERNAL,
    "server": trace.SpanKind.SERVER,
    "client": trace.SpanKind.CLIENT,
    "producer": trace.SpanKind.PRODUCER,
    "consumer": trace.SpanKind.CONSUMER,
}


def otlp_exporter(url: str) -> SpanExporter:
    """Return the exporter to a collector; headers, certificates and time-outs are the SDK's own variables."""
    return OTLPSpanExporter(endpoint=url)


class SpanExport:
    """Makes spans and hands those that are sampled to `exporter`, from a thread, in batches."""

    def __init__(self, exporter: SpanExporter, service: str, settings: TracingSettings, *, instance: str) -> None:
        own = Resource({"service.name": service, "service.namespace": "recstream", "service.instance.id": instance})
        # OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES come before ours.
        resource = Resource.create(own.merge(OTELResourceDetector().detect()).attributes)
        self._provider = TracerProvider(_sampler(settings), resource, shutdown_on_exit=False)
        # The queue is bounded (OTEL_BSP_MAX_QUEUE_SIZE); a full one drops spans and says so, every 20 s at most.
        self._provider.add_span_processor(BatchSpanProcessor(Outlet(exporter)))
        self._tracer = self._provider.get_tracer("recstream")

    def start(
        self, name: str, kind: Kind, parent: Span | str | None, attributes: Attributes | None, start_ns: int | None
    ) -> Span:
        """See Tracer.start."""
        before = parent.made if isinstance(parent, Span) else _remote(parent)
        context = trace.set_span_in_context(before, _NO_PARENT) if before is not None else _NO_PARENT
        return Span(None, self._tracer.start_span(name, context, _KINDS[kind], attributes, start_time=start_ns))

    def close(self) -> None:
        """See Tracer.close."""
        # By itself the SDK would wait for 30 s and more where the collector is away.
        ending = threading.Thread(target=self._provider.shutdown, name="tracing-flush", daemon=True)
        ending.start()
        ending.join(_FLUSH_SECONDS)
        if ending.is_alive():
            log.warning("tracing.not_flushed", after_seconds=_FLUSH_SECONDS)


class Outlet(SpanExporter):
    """An exporter whose failures are told once an outage, with the number of spans lost, and not once a batch."""

    def __init__(self, exporter: SpanExporter) -> None:
        self._exporter = exporter
        self._lost = 0
        # The exporter's own line says why; the first of an outage is enough.
        logging.getLogger(type(exporter).__module__).addFilter(lambda _record: self._lost == 0)

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        """Send a batch; it is lost where that fails."""
        result = self._exporter.export(spans)
        if result is not SpanExportResult.SUCCESS:
            if self._lost == 0:
                log.warning("tracing.export.failed", spans=len(spans))
            self._lost += len(spans)
        elif self._lost:
            log.warning("tracing.export.recovered", spans_lost=self._lost)
            self._lost = 0
        return result

    def shutdown(self) -> None:
        """Say what was lost, and close."""
        if self._lost:
            log.warning("tracing.spans_lost", spans_lost=self._lost)
        self._exporter.shutdown()

    def force_flush(self, timeout_millis: int = 30_000) -> bool:
        """Return whether nothing is held back; nothing ever is."""
        return self._exporter.force_flush(timeout_millis)


def _remote(traceparent: str | None) -> trace.Span | None:
    if traceparent is None:
        return None
    trace_id, span_id, flags = int(traceparent[3:35], 16), int(traceparent[36:52], 16), int(traceparent[53:55], 16)
    return trace.NonRecordingSpan(
        trace.SpanContext(trace_id, span_id, is_remote=True, trace_flags=trace.TraceFlags(flags))
    )


def _sampler(settings: TracingSettings) -> sampling.Sampler:
    match settings.traces_sampler:
        case "always_on":
            return sampling.ALWAYS_ON
        case "always_off":
            return sampling.ALWAYS_OFF
        case "traceidratio":
            return sampling.TraceIdRatioBased(settings.traces_sampler_arg)
        case "parentbased_always_on":
            return sampling.DEFAULT_ON
        case "parentbased_always_off":
            return sampling.DEFAULT_OFF
        case "parentbased_traceidratio":
            return sampling.ParentBasedTraceIdRatio(settings.traces_sampler_arg)
