"""Ending what nothing answered (promise 7): a record on the results topic, like every other end.

The sweep only proposes. An answer that lies on the topic already, and that the writer has not stored yet, comes first
in the log and counts.
"""

import threading
import time
import uuid
from collections.abc import Callable
from datetime import UTC, datetime

import psycopg
import structlog
from confluent_kafka import KafkaException

from recstream.db.advisory_locks import EXPIRY
from recstream.kafka.producer import ConfirmingProducer
from recstream.messages.codec import encode
from recstream.messages.envelope import event_headers
from recstream.messages.identifiers import request_id_key
from recstream.messages.inference import InferenceResult
from recstream.messages.outcomes import expired
from recstream.messages.topics import INFERENCE_RESULTS
from recstream.ops import metrics

log = structlog.get_logger()

_PAGE = 1_000
_AGAIN_SECONDS = 60.0
"""When what has been proposed and is still pending is proposed once more."""
_BEFORE_ALL = (datetime(1, 1, 2, tzinfo=UTC), uuid.UUID(int=0))

_OVERDUE = """
    SELECT expires_at, request_id FROM predictions
    WHERE status = 'PENDING' AND expires_at < now() - make_interval(secs => %(grace)s)
        AND (expires_at, request_id) > (%(time)s, %(id)s)
    ORDER BY expires_at, request_id
    LIMIT %(limit)s
"""


class ExpirySweep:
    """A thread that looks for overdue requests every `interval_seconds`, on a connection and a producer of its own."""

    def __init__(
        self,
        connect: Callable[[], psycopg.Connection],
        producer: ConfirmingProducer,
        *,
        interval_seconds: float,
        grace_seconds: float,
    ) -> None:
        self._connect = connect
        self._producer = producer
        self._interval_seconds = interval_seconds
        self._grace_seconds = grace_seconds
        self._connection: psycopg.Connection | None = None
        self._position = _BEFORE_ALL
        self._restart_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="expiry", daemon=True)

    def start(self) -> None:
        """Start the thread."""
        self._thread.start()

    def close(self) -> None:
        """Stop the thread; returns when it has ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._interval_seconds):
            try:
                self._sweep()
            except psycopg.Error as error:
                log.warning("expiry.failed", error=str(error))
                self._disconnect()
            except KafkaException as error:
                log.warning("expiry.failed", error=str(error))
                self._position = _BEFORE_ALL
        self._disconnect()

    def _sweep(self) -> None:
        connection = self._locked_connection()
        if connection is None:
            return
        now = time.monotonic()
        if now >= self._restart_at:
            self._position, self._restart_at = _BEFORE_ALL, now + _AGAIN_SECONDS
        swept = 0
        while not self._stop.is_set():
            expires_at, request_id = self._position
            page = connection.execute(
                _OVERDUE, {"grace": self._grace_seconds, "time": expires_at, "id": request_id, "limit": _PAGE}
            ).fetchall()
            if not page:
                break
            for _, overdue in page:
                self._producer.produce(
                    INFERENCE_RESULTS.name,
                    request_id_key(overdue),
                    encode(expired(overdue, "Nothing answered it before its time was over.")),
                    event_headers(InferenceResult, "db_writer", event_id=str(overdue)),
                )
            self._producer.flush()
            swept += len(page)
            # What was proposed stays pending until the writer comes to it: go on behind it.
            self._position = page[-1]
        if swept:
            metrics.SWEPT.inc(swept)
            log.warning("expiry.swept", requests=swept)

    def _locked_connection(self) -> psycopg.Connection | None:
        if self._connection is None:
            connection = self._connect()
            connection.autocommit = True
            connection.prepare_threshold = None
            row = connection.execute("SELECT pg_try_advisory_lock(%s)", (EXPIRY,)).fetchone()
            if row != (True,):
                connection.close()  # another writer sweeps
                return None
            self._connection = connection
            self._restart_at = 0.0
        return self._connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None
