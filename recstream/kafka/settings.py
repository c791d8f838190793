"""How to reach Kafka, and the client settings that all services share (DESIGN section 7)."""

import logging
from typing import Any

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from recstream.ops import ports
from recstream.ops.settings import ServiceSettings

Config = dict[str, Any]
"""What confluent-kafka takes: librdkafka's properties, and callbacks of its own."""


class ConsumerSettings(ServiceSettings):
    """`CONSUMER_MAX_ATTEMPTS`, `CONSUMER_BREAKER_RECORDS`, `CONSUMER_BREAKER_SECONDS`: of worker and db_writer."""

    model_config = SettingsConfigDict(env_prefix="CONSUMER_")

    max_attempts: int = Field(default=3, ge=1)
    """How often a record may end the process, taken by itself, before it is set aside."""
    breaker_records: int = Field(default=50, ge=2)
    """Bad records in a row, and no good one, at which the consumer stops."""
    breaker_seconds: float = Field(default=30, gt=0)
    """How long it then waits before it lets a few records through as a probe."""


class KafkaSettings(ServiceSettings):
    """`KAFKA_BOOTSTRAP_SERVERS`."""

    model_config = SettingsConfigDict(env_prefix="KAFKA_")

    bootstrap_servers: str = f"127.0.0.1:{ports.KAFKA}"

    def client(self, client_id: str) -> Config:
        """Return what every librdkafka client takes."""
        return {
            "bootstrap.servers": self.bootstrap_servers,
            "client.id": client_id,
            "logger": logging.getLogger("librdkafka"),
            "socket.keepalive.enable": True,
            "socket.connection.setup.timeout.ms": 5_000,
            # After a broker's restart a person waits for this back-off, so it is short.
            "reconnect.backoff.ms": 50,
            "reconnect.backoff.max.ms": 1_000,
        }

    def producer(self, client_id: str, *, delivery_timeout_ms: int, linger_ms: float = 0) -> Config:
        """Return the settings of an idempotent producer (`acks=all`, order kept across retries)."""
        return self.client(client_id) | {
            "enable.idempotence": True,
            "acks": "all",
            "linger.ms": linger_ms,
            "compression.type": "lz4",
            "delivery.timeout.ms": delivery_timeout_ms,
            # A bounded queue: when it is full, produce() raises BufferError, which is back-pressure.
            "queue.buffering.max.messages": 100_000,
            "queue.buffering.max.kbytes": 131_072,
        }

    def consumer(self, client_id: str, group: str) -> Config:
        """Return the settings of a consumer whose offsets are committed by hand."""
        return self.client(client_id) | {
            "group.id": group,
            "enable.auto.commit": False,
            "enable.auto.offset.store": False,
            "auto.offset.reset": "earliest",
            "allow.auto.create.topics": False,
            # A small prefetch: what sits in a client's memory cannot be taken over by another worker.
            "queued.min.messages": 2_000,
            "queued.max.messages.kbytes": 16_384,
            "fetch.wait.max.ms": 50,
            # The default second is felt as latency whenever the prefetch was full.
            "fetch.queue.backoff.ms": 10,
        }
