"""Keeps the served model at what `system.control` announces, without a pause in serving (promise 5).

A thread loads and verifies the newest announcement; only the finished model takes the place of the old one, and the
loop picks it up between two batches. Whatever is wrong with a bundle, the old model keeps answering.
"""

import threading
from collections.abc import Sequence
from pathlib import Path

import structlog
from confluent_kafka import KafkaException, Message

from recstream.kafka.producer import ConfirmingProducer
from recstream.kafka.records import headers_of
from recstream.kafka.settings import KafkaSettings
from recstream.kafka.tail import Start, Tail
from recstream.messages.codec import BadMessage, decode, encode
from recstream.messages.control import ModelAnnounced, WorkerState, WorkerStatus
from recstream.messages.envelope import check_event_type, event_headers
from recstream.messages.topics import SYSTEM_CONTROL, SYSTEM_STATUS
from recstream.model.manifest import BundleRejected
from recstream.ops import metrics
from recstream.ops.clock import utc_now
from worker.inference import ServedModel, load_model

log = structlog.get_logger()

_HEARTBEAT_SECONDS = 5.0
_PATIENCE_SECONDS = 0.5


class ModelReloader:
    """Follows announcements, loads in the background, reports on `system.status`."""

    def __init__(self, kafka: KafkaSettings, checkpoints: Path, worker_id: str) -> None:
        self._checkpoints = checkpoints
        self._worker_id = worker_id
        self._tail = Tail(kafka, f"{worker_id}-control", SYSTEM_CONTROL.name, Start.BEGINNING, self._on_records)
        self._producer = ConfirmingProducer(kafka.producer(f"{worker_id}-status", delivery_timeout_ms=10_000))
        self._changed = threading.Condition()
        self._newest: ModelAnnounced | None = None
        self._considered: ModelAnnounced | None = None
        self._current: ServedModel | None = None
        self._state = WorkerState.STARTING
        self._rejection: str | None = None
        self._stopping = False
        self._thread = threading.Thread(target=self._run, name="reloader", daemon=True)

    @property
    def current(self) -> ServedModel | None:
        """The model to answer the next batch with; None until a first one is loaded."""
        return self._current

    @property
    def caught_up(self) -> bool:
        """Whether every announcement that was there at start has been read."""
        return self._tail.ready

    def start(self) -> None:
        """Start following; returns at once."""
        self._tail.start()
        self._thread.start()

    def wait_for_model(self, stop: threading.Event) -> bool:
        """Block until a model is loaded (True) or `stop` is set (False)."""
        while not stop.is_set():
            with self._changed:
                if self._changed.wait_for(lambda: self._current is not None, timeout=_PATIENCE_SECONDS):
                    return True
        return False

    def close(self) -> None:
        """Stop following and take this worker off `system.status`."""
        self._tail.close()
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        self._thread.join()
        try:
            self._producer.produce(SYSTEM_STATUS.name, self._worker_id.encode(), None, [])
            self._producer.flush()
        except KafkaException as error:
            log.warning("status.tombstone.failed", error=str(error))

    def _on_records(self, records: Sequence[Message]) -> None:
        for record in records:
            value = record.value()
            if value is None:
                continue  # a tombstone: nothing is announced under this key any more
            try:
                check_event_type(headers_of(record), ModelAnnounced)
                announced = decode(value, ModelAnnounced)
            except BadMessage as error:
                metrics.BAD_RECORDS.labels(SYSTEM_CONTROL.name).inc()
                log.warning("control.ignored", offset=record.offset(), reason=error.reason, error=str(error))
                continue
            with self._changed:
                if self._newest is not None and announced.position <= self._newest.position:
                    metrics.MODEL_RELOADS.labels("outdated").inc()
                    log.info("control.outdated", model_version=announced.model_version)
                    continue
                self._newest = announced
                self._changed.notify_all()

    def _run(self) -> None:
        self._report()
        # What was announced before this start is read to its end first, so that only the newest is loaded.
        while not self._tail.wait_ready(_PATIENCE_SECONDS):
            if self._stopping:
                return
        while True:
            with self._changed:
                self._changed.wait_for(
                    lambda: self._stopping or self._newest is not self._considered, timeout=_HEARTBEAT_SECONDS
                )
                if self._stopping:
                    return
                announced = self._newest
            if announced is not None and announced is not self._considered:
                self._considered = announced
                self._consider(announced)
            self._report()

    def _consider(self, announced: ModelAnnounced) -> None:
        version = announced.model_version
        try:
            served = load_model(self._checkpoints, announced.folder, announced.manifest_sha256)
            if served.version != version:
                raise BundleRejected(f"the folder holds {served.version}")
        except BundleRejected as error:
            metrics.MODEL_RELOADS.labels("rejected").inc()
            log.error("model.rejected", model_version=version, generation=announced.generation, error=str(error))
            if self._current is None:
                self._fall_back(announced)
            self._state, self._rejection = WorkerState.REJECTED, str(error)
            return
        self._serve(served)
        for name in metrics.MODEL_QUALITY_NAMES & announced.metrics.keys():
            metrics.MODEL_QUALITY.labels(name).set(announced.metrics[name])
        metrics.MODEL_RELOADS.labels("loaded").inc()
        self._state, self._rejection = WorkerState.LOADED, None
        log.info("model.loaded", model_version=version, generation=announced.generation)

    def _fall_back(self, announced: ModelAnnounced) -> None:
        version, digest = announced.fallback_version, announced.fallback_manifest_sha256
        if version is None or digest is None:
            return
        try:
            self._serve(load_model(self._checkpoints, version, digest))
        except BundleRejected as error:
            log.error("model.fallback.rejected", model_version=version, error=str(error))
            return
        metrics.MODEL_RELOADS.labels("fell_back").inc()
        log.warning("model.fell_back", model_version=version)

    def _serve(self, served: ServedModel) -> None:
        with self._changed:
            self._current = served
            self._changed.notify_all()
        metrics.MODEL_QUALITY.clear()
        metrics.MODEL_INFO.clear()
        metrics.MODEL_INFO.labels(served.version).set(1)
        metrics.MODEL_TRAINED_TIMESTAMP.set(served.bundle.manifest.created_at.timestamp())

    def _report(self) -> None:
        current, considered = self._current, self._considered
        status = WorkerStatus(
            worker_id=self._worker_id,
            state=self._state,
            reported_at=utc_now(),
            model_version=current.version if current is not None else None,
            announced_version=considered.model_version if considered is not None else None,
            generation=considered.generation if considered is not None else None,
            detail=self._rejection,
        )
        try:
            self._producer.produce(
                SYSTEM_STATUS.name, self._worker_id.encode(), encode(status), event_headers(WorkerStatus, "worker")
            )
            self._producer.flush()
        except KafkaException as error:
            log.warning("status.report.failed", error=str(error))
