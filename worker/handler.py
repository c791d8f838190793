"""One batch of requests to results: decode, rank, publish; bad records to the dead letters (promise 4)."""

import time
import uuid
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import msgspec
import structlog
from confluent_kafka import Message

from recstream.kafka.breaker import Breaker
from recstream.kafka.dead_letters import send_dead_letter
from recstream.kafka.producer import ConfirmingProducer
from recstream.kafka.records import append_time_ms, headers_of
from recstream.kafka.spans import ended_by_delivery, processing, sending
from recstream.messages import outcomes
from recstream.messages.codec import BadMessage, decode, encode
from recstream.messages.envelope import check_event_type, event_headers, header
from recstream.messages.identifiers import request_id_key
from recstream.messages.inference import (
    InferenceRequested,
    InferenceResult,
    ResultError,
    ScoredItem,
    StageTimings,
    Status,
)
from recstream.messages.request_log import log_end
from recstream.messages.topics import INFERENCE_REQUESTS, INFERENCE_RESULTS
from recstream.ops import metrics
from recstream.ops.traceparent import trace_id_of, valid_traceparent
from recstream.ops.tracing import Span, Tracer
from worker.drift import DriftWatch
from worker.inference import Answer, ModelError, ServedModel

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Taken:
    record: Message
    request: InferenceRequested
    queued_ms: float
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class _Bad:
    record: Message
    error: BadMessage


class _RequestId(msgspec.Struct):
    request_id: uuid.UUID


class RequestHandler:
    """Answers batches with whatever model `current` returns, except for requests in `ended` or past their deadline.

    Every effect goes through the loop's producer.
    """

    def __init__(
        self,
        current: Callable[[], ServedModel],
        ended: Container[uuid.UUID],
        producer: ConfirmingProducer,
        breaker: Breaker,
        tracer: Tracer,
        drift: DriftWatch,
        *,
        group: str,
    ) -> None:
        self._current = current
        self._ended = ended
        self._producer = producer
        self._breaker = breaker
        self._tracer = tracer
        self._group = group
        self._drift = drift

    def __call__(self, records: Sequence[Message]) -> None:
        """Produce one result for each request that has not ended; the loop flushes. Raises Tripped."""
        taken_ns, started = time.time_ns(), time.perf_counter()
        decoded = [self._decode(record, taken_ns // 1_000_000) for record in records]
        bad = [item for item in decoded if isinstance(item, _Bad)]
        self._breaker.judge(good=len(decoded) - len(bad), bad=len(bad))
        for found in bad:
            self.set_aside(found.record, found.error)
        taken = [item for item in decoded if isinstance(item, _Taken) and self._is_open(item)]
        if not taken:
            return
        model = self._current()
        inference_started = time.perf_counter()
        answers = model.answer([item.request for item in taken])
        inference_seconds = time.perf_counter() - inference_started
        inference_ns = (taken_ns + int((inference_started - started) * 1e9), time.time_ns())
        metrics.BATCH_SIZE.observe(len(taken))
        metrics.INFERENCE_LATENCY.observe(inference_seconds)
        self._drift.observe(model, answers)
        batch_wait_ms, inference_ms = (inference_started - started) * 1000, inference_seconds * 1000
        for item, answer in zip(taken, answers, strict=True):
            timings = StageTimings(
                queued=round(item.queued_ms, 3),
                batch_wait=round(batch_wait_ms, 3),
                inference=round(inference_ms, 3),
                total=round(item.queued_ms + batch_wait_ms + inference_ms, 3),
            )
            span = self._begin(item.record, item.traceparent, len(taken), taken_ns)
            # The batch's inference is a span in the trace of each of its requests: a trace is whole by itself,
            # whichever of the others are sampled.
            inference = self._tracer.start("inference", "internal", span, start_ns=inference_ns[0])
            inference.set("recstream.model_version", model.version)
            inference.end(end_ns=inference_ns[1])
            if isinstance(answer, ModelError):
                metrics.ERRORS.labels("model_error").inc()
                result = outcomes.failed(
                    item.request.request_id,
                    ResultError(outcomes.MODEL_ERROR, "The model could not answer", str(answer)),
                    model_version=model.version,
                )
            else:
                result = _completed(item.request, answer, model.version, timings)
            self._publish(result, span)
            span.end(result.error.type if result.error is not None else None)

    def _decode(self, record: Message, taken_ms: int) -> _Taken | _Bad:
        headers = headers_of(record)
        traceparent = valid_traceparent(header(headers, "traceparent"))
        try:
            check_event_type(headers, InferenceRequested)
            request = decode(record.value(), InferenceRequested)
        except BadMessage as error:
            return _Bad(record, error)
        # The broker's clock and ours may differ: never negative.
        queued_ms = max(0, taken_ms - append_time_ms(record))
        metrics.QUEUE_DELAY.observe(queued_ms / 1000)
        return _Taken(record, request, queued_ms, traceparent)

    def _is_open(self, item: _Taken) -> bool:
        request = item.request
        if request.request_id in self._ended:
            metrics.SKIPPED.inc()
            return False
        if request.remaining_ms is not None and item.queued_ms > request.remaining_ms:
            detail = f"Its deadline of {request.remaining_ms} ms had passed when a worker took it."
            self._refuse(item.record, outcomes.expired(request.request_id, detail), item.traceparent)
            return False
        return True

    def set_aside(self, record: Message, error: BadMessage) -> None:
        """Send a record to the dead letters and, where its request can be told, end that as failed."""
        traceparent = valid_traceparent(header(headers_of(record), "traceparent"))
        send_dead_letter(self._producer, INFERENCE_REQUESTS, record, error, service="worker")
        metrics.ERRORS.labels(error.reason.value).inc()
        request_id = _readable_request_id(record)
        log.warning(
            "record.set_aside",
            topic=INFERENCE_REQUESTS.name,
            reason=error.reason,
            partition=record.partition(),
            offset=record.offset(),
            request_id=str(request_id) if request_id else None,
            trace_id=trace_id_of(traceparent),
            error=str(error),
        )
        if request_id is not None:
            problem = ResultError(
                outcomes.BAD_RECORD, "The request could not be understood", f"Set aside as {error.reason}."
            )
            self._refuse(record, outcomes.failed(request_id, problem), traceparent)

    def _refuse(self, record: Message, result: InferenceResult, traceparent: str | None) -> None:
        span = self._begin(record, traceparent, 1, time.time_ns())
        self._publish(result, span)
        span.end(result.error.type if result.error is not None else None)

    def _begin(self, record: Message, traceparent: str | None, batch: int, taken_ns: int) -> Span:
        return processing(self._tracer, record, traceparent, group=self._group, batch=batch, taken_ns=taken_ns)

    def _publish(self, result: InferenceResult, span: Span) -> None:
        source = result.source.value if result.source is not None else "none"
        metrics.PROCESSED.labels(result.status.value, source).inc()
        log_end(result.request_id, result.status, result.model_version, result.error, span.traceparent)
        sent = sending(self._tracer, INFERENCE_RESULTS.name, span)
        self._producer.produce(
            INFERENCE_RESULTS.name,
            request_id_key(result.request_id),
            encode(result),
            # The same request answered twice is the same event: CloudEvents asks for equal ids then.
            event_headers(InferenceResult, "worker", event_id=str(result.request_id), traceparent=sent.traceparent),
            on_delivery=ended_by_delivery(sent) if self._tracer.on else None,
        )


def _completed(
    request: InferenceRequested, answer: Answer, model_version: str, timings: StageTimings
) -> InferenceResult:
    ranking = answer.ranking
    metrics.HISTORY_LENGTH.observe(ranking.history_length)
    metrics.HISTORY_ITEMS.inc(len(request.history))
    metrics.UNKNOWN_ITEMS.inc(ranking.unknown_items)
    if answer.reason is not None:
        metrics.FALLBACKS.labels(answer.reason).inc()
    elif ranking.items:
        metrics.PREDICTION_SCORE.observe(ranking.items[0][1])
    return InferenceResult(
        request_id=request.request_id,
        status=Status.COMPLETED,
        items=[ScoredItem(item_id, score) for item_id, score in ranking.items],
        model_version=model_version,
        source=answer.source,
        reason=answer.reason,
        history_length=ranking.history_length,
        unknown_items=ranking.unknown_items,
        timings_ms=timings,
    )


def _readable_request_id(record: Message) -> uuid.UUID | None:
    try:
        return uuid.UUID((record.key() or b"").decode("ascii"))
    except ValueError:
        pass
    try:
        return msgspec.json.decode(record.value() or b"", type=_RequestId).request_id
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return None
