"""Runs one worker: `python -m worker`."""

import sys

import structlog
import torch

from recstream.kafka import loop
from recstream.kafka.breaker import Breaker
from recstream.kafka.producer import ConfirmingProducer
from recstream.kafka.settings import ConsumerSettings, KafkaSettings
from recstream.messages.topics import INFERENCE_REQUESTS
from recstream.model.settings import CheckpointSettings
from recstream.ops.health import serve_health
from recstream.ops.logs import LogSettings, configure_logging
from recstream.ops.shutdown import stop_on_signal
from recstream.ops.tracing import TracingSettings, start_tracing
from worker.drift import DriftWatch
from worker.ended_requests import EndedRequests
from worker.handler import RequestHandler
from worker.inference import ServedModel
from worker.reloader import ModelReloader
from worker.settings import WorkerSettings

log = structlog.get_logger()


def main() -> int:
    """Wire the parts, consume until told to stop; return the exit status."""
    settings, kafka, checkpoints = WorkerSettings.load(), KafkaSettings.load(), CheckpointSettings.load()
    consumer = ConsumerSettings.load()
    configure_logging("worker", LogSettings.load())
    tracer = start_tracing("worker", TracingSettings.load(), instance=settings.id)
    torch.set_num_threads(settings.threads)
    reloader = ModelReloader(kafka, checkpoints.dir, settings.id)
    ended = EndedRequests(kafka, settings.id)
    producer = ConfirmingProducer(kafka.producer(settings.id, delivery_timeout_ms=60_000))
    breaker = Breaker(consumer)
    source: loop.GroupSource | None = None

    def checks() -> dict[str, bool]:
        return {
            "control": reloader.caught_up,
            "model": reloader.current is not None,
            "assigned": source is not None and source.assigned,
            "breaker": breaker.closed,
        }

    def current() -> ServedModel:
        model = reloader.current
        assert model is not None
        return model

    with stop_on_signal() as stop, serve_health(settings.metrics_host, settings.metrics_port, checks) as port:
        log.info("worker.started", worker_id=settings.id, metrics_port=port)
        reloader.start()
        ended.start()
        try:
            # Without any model requests wait on the topic, for this worker or for one that has a model.
            if reloader.wait_for_model(stop):
                source = loop.GroupSource(kafka, settings.id, settings.group, [INFERENCE_REQUESTS.name])
                drift = DriftWatch(settings.drift_window)
                handler = RequestHandler(current, ended, producer, breaker, tracer, drift, group=settings.group)
                loop.run(
                    source,
                    handler,
                    producer,
                    stop,
                    batch=settings.batch,
                    breaker=breaker,
                    max_attempts=consumer.max_attempts,
                )
        finally:
            ended.close()
            reloader.close()
            tracer.close()
    log.info("worker.stopped", worker_id=settings.id)
    return 0


if __name__ == "__main__":
    sys.exit(main())
