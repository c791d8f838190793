"""Runs the database writer: `python -m db_writer`."""

import sys
from functools import partial

import structlog

from db_writer.expiry import ExpirySweep
from db_writer.handler import Stopped, WriteHandler
from db_writer.maintenance import Maintenance
from db_writer.settings import DbWriterSettings
from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings
from recstream.kafka import loop
from recstream.kafka.breaker import Breaker
from recstream.kafka.producer import ConfirmingProducer
from recstream.kafka.settings import ConsumerSettings, KafkaSettings
from recstream.messages.topics import ACTIVITY_EVENTS, INFERENCE_RESULTS
from recstream.ops.health import serve_health
from recstream.ops.logs import LogSettings, configure_logging
from recstream.ops.shutdown import stop_on_signal
from recstream.ops.tracing import TracingSettings, start_tracing

log = structlog.get_logger()


def main() -> int:
    """Wire the parts, consume until told to stop; return the exit status."""
    settings, kafka, postgres = DbWriterSettings.load(), KafkaSettings.load(), PostgresSettings.load()
    consumer = ConsumerSettings.load()
    configure_logging("db_writer", LogSettings.load())
    tracer = start_tracing("db_writer", TracingSettings.load(), instance=settings.id)
    open_connection = partial(connect, postgres, "db_writer")
    producer = ConfirmingProducer(kafka.producer(settings.id, delivery_timeout_ms=60_000))
    maintenance = Maintenance(open_connection, settings.maintenance_interval_seconds)
    expiry = ExpirySweep(
        open_connection,
        ConfirmingProducer(kafka.producer(f"{settings.id}-expiry", delivery_timeout_ms=10_000)),
        interval_seconds=settings.expiry_interval_seconds,
        grace_seconds=settings.expiry_grace_seconds,
    )
    breaker = Breaker(consumer)
    source: loop.GroupSource | None = None
    with stop_on_signal() as stop:
        handler = WriteHandler(open_connection, producer, stop, breaker, tracer, group=settings.group)

        def checks() -> dict[str, bool]:
            return {
                "postgres": handler.connected,
                "assigned": source is not None and source.assigned,
                "breaker": breaker.closed,
            }

        with serve_health(settings.metrics_host, settings.metrics_port, checks) as port:
            log.info("db_writer.started", metrics_port=port)
            try:
                handler.connect()
                maintenance.start()
                expiry.start()
                source = loop.GroupSource(
                    kafka, settings.id, settings.group, [INFERENCE_RESULTS.name, ACTIVITY_EVENTS.name]
                )
                loop.run(
                    source,
                    handler,
                    producer,
                    stop,
                    batch=settings.batch,
                    breaker=breaker,
                    max_attempts=consumer.max_attempts,
                )
            except Stopped as error:
                log.warning("db_writer.stopped_early", reason=str(error))
            finally:
                expiry.close()
                maintenance.close()
                handler.close()
                tracer.close()
    log.info("db_writer.stopped")
    return 0


if __name__ == "__main__":
    sys.exit(main())
