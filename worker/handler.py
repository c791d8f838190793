"""One batch of requests to results: decode, rank, publish; bad records to the dead letters (promise 4)."""

import time
import uuid
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass

import msgspec
import structlog
from confluent_kafka import Message

from recstream.kafka.dead_letters import send_dead_letter
from recstream.kafka.producer import ConfirmingProducer
from recstream.kafka.records import append_time_ms, headers_of
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
from recstream.messages.topics import INFERENCE_REQUESTS, INFERENCE_RESULTS
from recstream.ops import metrics
from recstream.ops.clock import now_ms
from worker.inference import Answer, ModelError, ServedModel

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class _Taken:
    request: InferenceRequested
    queued_ms: float
    traceparent: str | None


class _RequestId(msgspec.Struct):
    request_id: uuid.UUID


class RequestHandler:
    """Answers batches with whatever model `current` returns, except for requests in `ended` or past their deadline.

    Every effect goes through the loop's producer.
    """

    def __init__(
        self, current: Callable[[], ServedModel], ended: Container[uuid.UUID], producer: ConfirmingProducer
    ) -> None:
        self._current = current
        self._ended = ended
        self._producer = producer

    def __call__(self, records: Sequence[Message]) -> None:
        """Produce one result for each request that has not ended; the loop flushes."""
        taken_ms, started = now_ms(), time.perf_counter()
        decoded = [item for record in records if (item := self._decode(record, taken_ms)) is not None]
        taken = [item for item in decoded if self._is_open(item)]
        if not taken:
            return
        model = self._current()
        inference_started = time.perf_counter()
        answers = model.answer([item.request for item in taken])
        inference_seconds = time.perf_counter() - inference_started
        metrics.BATCH_SIZE.observe(len(taken))
        metrics.INFERENCE_LATENCY.observe(inference_seconds)
        batch_wait_ms, inference_ms = (inference_started - started) * 1000, inference_seconds * 1000
        for item, answer in zip(taken, answers, strict=True):
            timings = StageTimings(
                queued=round(item.queued_ms, 3),
                batch_wait=round(batch_wait_ms, 3),
                inference=round(inference_ms, 3),
                total=round(item.queued_ms + batch_wait_ms + inference_ms, 3),
            )
            if isinstance(answer, ModelError):
                log.error("inference.failed", request_id=str(item.request.request_id), error=str(answer))
                metrics.ERRORS.labels("model_error").inc()
                result = outcomes.failed(
                    item.request.request_id,
                    ResultError(outcomes.MODEL_ERROR, "The model could not answer", str(answer)),
                    model_version=model.version,
                )
            else:
                result = _completed(item.request, answer, model.version, timings)
            self._publish(result, item.traceparent)

    def _decode(self, record: Message, taken_ms: int) -> _Taken | None:
        headers = headers_of(record)
        try:
            check_event_type(headers, InferenceRequested)
            request = decode(record.value(), InferenceRequested)
        except BadMessage as error:
            self._set_aside(record, error)
            return None
        # The broker's clock and ours may differ: never negative.
        queued_ms = max(0, taken_ms - append_time_ms(record))
        metrics.QUEUE_DELAY.observe(queued_ms / 1000)
        return _Taken(request, queued_ms, header(headers, "traceparent"))

    def _is_open(self, item: _Taken) -> bool:
        request = item.request
        if request.request_id in self._ended:
            metrics.SKIPPED.inc()
            return False
        if request.remaining_ms is not None and item.queued_ms > request.remaining_ms:
            detail = f"Its deadline of {request.remaining_ms} ms had passed when a worker took it."
            self._publish(outcomes.expired(request.request_id, detail), item.traceparent)
            return False
        return True

    def _set_aside(self, record: Message, error: BadMessage) -> None:
        send_dead_letter(self._producer, INFERENCE_REQUESTS, record, error, service="worker")
        metrics.ERRORS.labels(error.reason.value).inc()
        request_id = _readable_request_id(record)
        log.warning(
            "request.set_aside",
            reason=error.reason,
            partition=record.partition(),
            offset=record.offset(),
            request_id=str(request_id) if request_id else None,
        )
        if request_id is not None:
            problem = ResultError(
                outcomes.BAD_RECORD, "The request could not be understood", f"Set aside as {error.reason}."
            )
            self._publish(outcomes.failed(request_id, problem), None)

    def _publish(self, result: InferenceResult, traceparent: str | None) -> None:
        source = result.source.value if result.source is not None else "none"
        metrics.PROCESSED.labels(result.status.value, source).inc()
        self._producer.produce(
            INFERENCE_RESULTS.name,
            request_id_key(result.request_id),
            encode(result),
            # The same request answered twice is the same event: CloudEvents asks for equal ids then.
            event_headers(InferenceResult, "worker", event_id=str(result.request_id), traceparent=traceparent),
        )


def _completed(
    request: InferenceRequested, answer: Answer, model_version: str, timings: StageTimings
) -> InferenceResult:
    ranking = answer.ranking
    metrics.HISTORY_LENGTH.observe(ranking.history_length)
    metrics.HISTORY_ITEMS.inc(len(request.history))
    metrics.UNKNOWN_ITEMS.inc(ranking.unknown_items)
    if ranking.items:
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
