"""A producer whose flush() means that the broker has everything."""

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from recstream.kafka.settings import Config
from recstream.messages.envelope import Headers


class ConfirmingProducer:
    """An idempotent producer for the consume loop. Not shared between threads."""

    def __init__(self, config: Config) -> None:
        self._producer = Producer(config)
        self._first_error: KafkaError | None = None

    def produce(self, topic: str, key: bytes | None, value: bytes | None, headers: Headers) -> None:
        """Queue a record; blocks while the queue is full, until the broker makes room or delivery times out."""
        while True:
            try:
                self._producer.produce(topic, value=value, key=key, headers=list(headers), on_delivery=self._confirm)
                return
            except BufferError:
                self._producer.poll(0.1)

    def flush(self) -> None:
        """Return when every record produced so far is acknowledged.

        Raises:
            KafkaException: a record was not delivered within `delivery.timeout.ms`.
        """
        # flush() sends at once, whatever linger.ms says; the delivery time-out bounds it.
        self._producer.flush()
        if self._first_error is not None:
            error, self._first_error = self._first_error, None
            raise KafkaException(error)

    def _confirm(self, error: KafkaError | None, _record: Message) -> None:
        if error is not None and self._first_error is None:
            self._first_error = error
