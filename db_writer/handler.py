"""One batch from both topics to one transaction; what PostgreSQL cannot take goes to the dead letters."""

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar
from uuid import UUID

import psycopg
import structlog
import tenacity
from confluent_kafka import Message

from db_writer.activity import record_interactions
from db_writer.results import EndedRequest, end_requests
from recstream.kafka.breaker import Breaker
from recstream.kafka.dead_letters import send_dead_letter
from recstream.kafka.loop import Unfinished
from recstream.kafka.producer import ConfirmingProducer
from recstream.kafka.records import append_time_ms, headers_of
from recstream.kafka.results import read_result
from recstream.kafka.spans import processing
from recstream.messages.activity import InteractionRecorded
from recstream.messages.codec import BadMessage, Reason, decode
from recstream.messages.envelope import check_event_type, header
from recstream.messages.request_log import log_end
from recstream.messages.topics import ACTIVITY_EVENTS, INFERENCE_RESULTS, Topic
from recstream.ops import metrics
from recstream.ops.clock import from_ms
from recstream.ops.traceparent import trace_id_of, valid_traceparent
from recstream.ops.tracing import Span, Tracer

log = structlog.get_logger()

T = TypeVar("T")

_AWAY = (psycopg.OperationalError, psycopg.InterfaceError)


@dataclass(frozen=True, slots=True)
class _Entry:
    """A record and what it says."""

    record: Message
    content: EndedRequest | InteractionRecorded
    traceparent: str | None


@dataclass(frozen=True, slots=True)
class _Bad:
    """A record that cannot be stored, and why."""

    record: Message
    error: BadMessage


class Stopped(Unfinished):
    """Told to stop while PostgreSQL was away; the batch stays uncommitted."""


class WriteHandler:
    """Writes batches; waits for PostgreSQL as long as it is away, with the offsets uncommitted meanwhile."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection],
        producer: ConfirmingProducer,
        stop: threading.Event,
        breaker: Breaker,
        tracer: Tracer,
        *,
        group: str,
    ) -> None:
        self._connect = connect
        self._producer = producer
        self._breaker = breaker
        self._tracer = tracer
        self._group = group
        self._connection: psycopg.Connection | None = None
        self._retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type(_AWAY),
            wait=tenacity.wait_random_exponential(multiplier=0.1, max=2),
            stop=tenacity.stop_when_event_set(stop),
            sleep=tenacity.sleep_using_event(stop),
            before_sleep=self._before_retry,
        )

    @property
    def connected(self) -> bool:
        """Whether the last statement reached PostgreSQL."""
        return self._connection is not None

    def connect(self) -> None:
        """Wait for PostgreSQL. Raises Stopped where told to stop first."""
        self._attempt(self._open)

    def __call__(self, records: Sequence[Message]) -> None:
        """Return when every good record is committed and every bad one is produced to its dead-letter topic.

        Raises Tripped, and Stopped where told to stop while PostgreSQL was away.
        """
        decoded = [self._decode(record) for record in records]
        entries = [entry for entry in decoded if isinstance(entry, _Entry)]
        bad = [entry for entry in decoded if isinstance(entry, _Bad)]
        if entries:
            with metrics.WRITE_LATENCY.time():
                bad += self._write(entries)
        self._breaker.judge(good=len(records) - len(bad), bad=len(bad))
        for entry in bad:
            self.set_aside(entry.record, entry.error)

    def close(self) -> None:
        """Close the connection."""
        if self._connection is not None:
            self._connection.close()

    def _write(self, entries: Sequence[_Entry]) -> list[_Bad]:
        """Commit what can be stored; return the rest."""
        started_ns = time.time_ns()
        try:
            unknown = self._attempt(lambda: self._commit(entries))
        except psycopg.DataError as error:
            # One record that PostgreSQL refuses must not stop its neighbours: halve until it stands alone.
            if len(entries) > 1:
                middle = len(entries) // 2
                return [*self._write(entries[:middle]), *self._write(entries[middle:])]
            return [_Bad(entries[0].record, BadMessage(Reason.MALFORMED, f"PostgreSQL refused it: {error.sqlstate}"))]
        missing: list[_Bad] = []
        for entry in entries:
            if isinstance(entry.content, EndedRequest) and entry.content.result.request_id in unknown:
                missing.append(
                    _Bad(entry.record, BadMessage(Reason.UNKNOWN_REQUEST, "no request of that id was accepted"))
                )
                continue
            if isinstance(entry.content, EndedRequest):
                result = entry.content.result
                log_end(result.request_id, result.status, result.model_version, result.error, entry.traceparent)
            # The transaction's time, as each of its records waited for it.
            self._begin(entry.record, entry.traceparent, len(entries), started_ns).end()
        return missing

    def _commit(self, entries: Sequence[_Entry]) -> set[UUID]:
        connection = self._open()
        with connection.transaction():
            contents = [entry.content for entry in entries]
            record_interactions(connection, [event for event in contents if isinstance(event, InteractionRecorded)])
            return end_requests(connection, [ended for ended in contents if isinstance(ended, EndedRequest)])

    def _open(self) -> psycopg.Connection:
        if self._connection is None:
            self._connection = self._connect()
            self._connection.autocommit = True
            # A statement prepared while the table was empty would keep its sequential scan for ever.
            self._connection.prepare_threshold = None
        return self._connection

    def _attempt(self, call: Callable[[], T]) -> T:
        try:
            return self._retrying(call)
        except tenacity.RetryError as error:
            raise Stopped("stopped while PostgreSQL was away") from error

    def _before_retry(self, state: tenacity.RetryCallState) -> None:
        metrics.DATABASE_RETRIES.inc()
        log.warning(
            "postgres.away", attempt=state.attempt_number, error=str(state.outcome and state.outcome.exception())
        )
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _decode(self, record: Message) -> _Entry | _Bad:
        topic = _topic(record)
        headers = headers_of(record)
        traceparent = valid_traceparent(header(headers, "traceparent"))
        try:
            if topic is INFERENCE_RESULTS:
                result, value = read_result(record), record.value()
                assert value is not None
                ended = EndedRequest(result, value.decode(), from_ms(append_time_ms(record)))
                return _Entry(record, ended, traceparent)
            check_event_type(headers, InteractionRecorded)
            return _Entry(record, decode(record.value(), InteractionRecorded), traceparent)
        except BadMessage as error:
            return _Bad(record, error)

    def set_aside(self, record: Message, error: BadMessage) -> None:
        """Send a record to the dead letters."""
        topic = _topic(record)
        send_dead_letter(self._producer, topic, record, error, service="db_writer")
        traceparent = valid_traceparent(header(headers_of(record), "traceparent"))
        self._begin(record, traceparent, 1, time.time_ns()).end(error.reason.value)
        log.warning(
            "record.set_aside",
            topic=topic.name,
            reason=error.reason,
            partition=record.partition(),
            offset=record.offset(),
            # The key of a result; that of activity is a person's id, and not for logs.
            request_id=(record.key() or b"").decode(errors="replace") if topic is INFERENCE_RESULTS else None,
            trace_id=trace_id_of(traceparent),
            error=str(error),
        )

    def _begin(self, record: Message, traceparent: str | None, batch: int, taken_ns: int) -> Span:
        return processing(self._tracer, record, traceparent, group=self._group, batch=batch, taken_ns=taken_ns)


def _topic(record: Message) -> Topic:
    return INFERENCE_RESULTS if record.topic() == INFERENCE_RESULTS.name else ACTIVITY_EVENTS
