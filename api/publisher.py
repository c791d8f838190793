"""Producing to Kafka from the event loop: queue at once, learn of the delivery later."""

import asyncio
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from confluent_kafka import KafkaError, Message, Producer

from recstream.kafka.settings import Config
from recstream.messages.envelope import Headers

OnDelivery = Callable[[KafkaError | None], None]
"""Told once whether the record was delivered; called on the publisher's thread, so it must be quick."""


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A record to produce."""

    topic: str
    key: bytes
    value: bytes
    headers: Headers


class NotDelivered(RuntimeError):
    """Kafka did not confirm a record."""


class Publisher:
    """An idempotent producer whose delivery reports are served by a thread of its own."""

    def __init__(self, config: Config) -> None:
        self._producer = Producer(config)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._serve_reports, name="delivery-reports", daemon=True)

    def start(self) -> None:
        """Start serving delivery reports."""
        self._thread.start()

    def close(self, timeout: float) -> None:
        """Wait up to `timeout` seconds for what is queued, then stop. Blocks."""
        self._producer.flush(timeout)
        self._stop.set()
        self._thread.join()

    def send(self, record: Outgoing, on_delivery: OnDelivery) -> None:
        """Queue a record; does not block. Raises BufferError while the queue is full."""

        def report(error: KafkaError | None, _record: Message) -> None:
            on_delivery(error)

        self._producer.produce(
            record.topic, value=record.value, key=record.key, headers=list(record.headers), on_delivery=report
        )

    async def send_all(self, records: Sequence[Outgoing]) -> None:
        """Produce and wait until every record is acknowledged.

        Raises:
            NotDelivered: one was not, within the producer's delivery time-out; any of the others may have been.
        """
        loop = asyncio.get_running_loop()
        finished: asyncio.Future[None] = loop.create_future()
        left = len(records)

        def settle(error: KafkaError | None) -> None:
            nonlocal left
            left -= 1
            if finished.done():
                return
            if error is not None:
                finished.set_exception(NotDelivered(error.str()))
            elif left == 0:
                finished.set_result(None)

        def on_delivery(error: KafkaError | None) -> None:
            loop.call_soon_threadsafe(settle, error)

        for record in records:
            try:
                self.send(record, on_delivery)
            except BufferError as error:
                raise NotDelivered("the producer's queue is full") from error
        await finished

    def _serve_reports(self) -> None:
        while not self._stop.is_set():
            self._producer.poll(0.1)
