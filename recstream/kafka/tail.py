"""Follow a topic without a group: every record of every partition, for control, api and ui (DESIGN section 7)."""

import threading
import time
from collections.abc import Callable, Sequence
from enum import Enum

import structlog
import tenacity
from confluent_kafka import Consumer, KafkaError, KafkaException, Message, TopicPartition

from recstream.kafka.records import offset_of, partition_of
from recstream.kafka.settings import KafkaSettings

log = structlog.get_logger()

OnRecords = Callable[[Sequence[Message]], None]
"""Takes each batch in log order, on the tail's thread. Must not block, and must not raise for a bad record."""

_METADATA_TIMEOUT = 5.0
_POLL_SECONDS = 0.2
_BATCH = 1_000


class Start(Enum):
    """Where a tail begins."""

    BEGINNING = "beginning"
    END = "end"


class _Stalled(Exception):
    """The broker has records that the consumer does not bring (librdkafka#5153)."""


class Tail:
    """A thread that hands over every record of a topic from its start (or from now on), across broker restarts.

    Offsets are concrete from the first moment: `Start.END` is the high watermark read before `ready`, so a record
    appended after `ready` is never missed. Nothing is committed; after an error the tail goes on behind the last
    record it handed over.
    """

    def __init__(
        self,
        settings: KafkaSettings,
        client_id: str,
        topic: str,
        start: Start,
        on_records: OnRecords,
        *,
        watchdog_seconds: float = 5.0,
    ) -> None:
        self._config = settings.consumer(client_id, group=f"tail-{client_id}") | {"fetch.wait.max.ms": 100}
        self._topic = topic
        self._start = start
        self._on_records = on_records
        self._watchdog_seconds = watchdog_seconds
        self._next: dict[int, int] = {}
        self._ready = threading.Event()
        self._connected = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name=f"tail-{topic}", daemon=True)

    def start(self) -> None:
        """Start the thread; returns at once, also while Kafka is away."""
        self._thread.start()

    def wait_ready(self, timeout: float) -> bool:
        """Wait until the tail is placed (and, from the beginning, has handed over all there was); False on time-out."""
        return self._ready.wait(timeout)

    @property
    def ready(self) -> bool:
        """Whether the tail is placed and, from the beginning, has caught up once."""
        return self._ready.is_set()

    @property
    def connected(self) -> bool:
        """Whether the broker answered when it was last heard of, which is at most the watchdog's time ago."""
        return self._connected

    def close(self) -> None:
        """Stop the thread and leave; returns when it has ended."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        retrying = tenacity.Retrying(
            retry=tenacity.retry_if_exception_type((KafkaException, _Stalled)),
            wait=tenacity.wait_random_exponential(multiplier=0.2, max=5),
            stop=tenacity.stop_when_event_set(self._stop),
            sleep=tenacity.sleep_using_event(self._stop),
            before_sleep=lambda state: log.warning(
                "kafka.tail.restarted", topic=self._topic, error=str(state.outcome and state.outcome.exception())
            ),
        )
        try:
            while not self._stop.is_set():
                retrying(self._follow)
        except tenacity.RetryError:
            assert self._stop.is_set()

    def _follow(self) -> None:
        consumer = Consumer(self._config)
        try:
            goal = self._place(consumer)
            self._connected = True
            last_progress = time.monotonic()
            while not self._stop.is_set():
                if not self._ready.is_set() and all(self._next[number] >= end for number, end in goal.items()):
                    self._ready.set()
                records = self._take(consumer)
                now = time.monotonic()
                if records:
                    self._connected = True
                    self._hand_over(records)
                    last_progress = now
                elif now - last_progress > self._watchdog_seconds:
                    self._check_for_stall(consumer)
                    self._connected = True
                    last_progress = now
        finally:
            self._connected = False
            consumer.close()

    def _place(self, consumer: Consumer) -> dict[int, int]:
        """Assign every partition at a concrete offset; return the end of each as it was then."""
        metadata = consumer.list_topics(self._topic, timeout=_METADATA_TIMEOUT).topics[self._topic]
        if metadata.error is not None:
            raise KafkaException(metadata.error)
        goal = {}
        for number in metadata.partitions:
            low, high = self._watermarks(consumer, number)
            goal[number] = high
            begin = self._next.get(number, low if self._start is Start.BEGINNING else high)
            # Retention may have passed us by, and a topic made anew starts at 0.
            self._next[number] = begin if low <= begin <= high else low
        consumer.assign([TopicPartition(self._topic, number, offset) for number, offset in self._next.items()])
        return goal

    def _take(self, consumer: Consumer) -> list[Message]:
        first = consumer.poll(_POLL_SECONDS)
        if first is None:
            return []
        records = []
        for record in (first, *consumer.consume(_BATCH - 1, 0)):
            error = record.error()
            if error is None:
                records.append(record)
            elif error.fatal() or error.code() in {KafkaError.OFFSET_OUT_OF_RANGE, KafkaError._AUTO_OFFSET_RESET}:
                raise KafkaException(error)
            else:
                self._connected = False
                log.warning("kafka.tail.error", topic=self._topic, error=error.str())
        return records

    def _check_for_stall(self, consumer: Consumer) -> None:
        behind = {
            number for number, following in self._next.items() if self._watermarks(consumer, number)[1] > following
        }
        if not behind:
            return
        # What was appended while we looked is no stall: give it the time of one more poll.
        records = self._take(consumer)
        if not records:
            raise _Stalled(f"partitions {behind} have records that do not arrive")
        self._hand_over(records)

    def _hand_over(self, records: Sequence[Message]) -> None:
        self._on_records(records)
        for record in records:
            _, number = partition_of(record)
            self._next[number] = offset_of(record) + 1

    def _watermarks(self, consumer: Consumer, number: int) -> tuple[int, int]:
        partition = TopicPartition(self._topic, number)
        watermarks = consumer.get_watermark_offsets(partition, timeout=_METADATA_TIMEOUT, cached=False)
        if watermarks is None:
            raise KafkaException(KafkaError(KafkaError._TIMED_OUT))
        return watermarks
