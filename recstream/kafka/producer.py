"""A producer whose flush() means that the broker has everything."""

from collections.abc import Callable

from confluent_kafka import KafkaError, KafkaException, Message, Producer

from recstream.kafka.settings import Config
from recstream.messages.envelope import Headers


class ConfirmingProducer:
    """An idempotent producer for the consume loop. Not shared between threads."""

    def __init__(self, config: Config) -> None:
        self._producer = Producer(config)
        self._first_error: KafkaError | None = None

    def produce(
        self,
        topic: str,
        key: bytes | None,
        value: bytes | None,
        headers: Headers,
        *,
        on_delivery: Callable[[KafkaError | None], None] | None = None,
    ) -> None:
        """Queue a record; blocks while the queue is full, until the broker makes room or delivery times out.

        `on_delivery` is told what became of the record, during a later call of this object.
        """
        confirm = self._confirm if on_delivery is None else self._confirm_and_tell(on_delivery)
        while True:
            try:
                self._producer.produce(topic, value=value, key=key, headers=list(headers), on_delivery=confirm)
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

    def _confirm_and_tell(
        self, on_delivery: Callable[[KafkaError | None], None]
    ) -> Callable[[KafkaError | None, Message], None]:
        def confirm(error: KafkaError | None, record: Message) -> None:
            self._confirm(error, record)
            on_delivery(error)

        return confirm

    def _confirm(self, error: KafkaError | None, _record: Message) -> None:
        if error is not None and self._first_error is None:
            self._first_error = error
