"""The consume loop and the tail against the real broker."""

import threading
import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest
from confluent_kafka import KafkaException, Message, Producer
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from recstream.kafka import loop
from recstream.kafka.producer import ConfirmingProducer
from recstream.kafka.settings import KafkaSettings
from recstream.kafka.tail import Start, Tail
from tests.waiting import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def topic(kafka: KafkaSettings) -> Iterator[str]:
    """Return a topic of this test alone, with three partitions."""
    name = f"test.{uuid.uuid4().hex}"
    admin = AdminClient(kafka.client("tests"))
    admin.create_topics([NewTopic(name, 3, 1)])[name].result()
    yield name
    admin.delete_topics([name])[name].result()


@pytest.fixture
def producer(kafka: KafkaSettings) -> ConfirmingProducer:
    """Return a producer."""
    return ConfirmingProducer(kafka.producer("tests", delivery_timeout_ms=10_000))


def _send(producer: ConfirmingProducer, topic: str, values: Sequence[str]) -> None:
    for value in values:
        producer.produce(topic, value.encode(), value.encode(), [])
    producer.flush()


class _Collector:
    """Handles by remembering; stops the loop once it has seen enough."""

    def __init__(self, expected: int) -> None:
        self.values: list[str] = []
        self.batches: list[int] = []
        self.stop = threading.Event()
        self._expected = expected

    def __call__(self, records: Sequence[Message]) -> None:
        self.batches.append(len(records))
        self.values += [(record.value() or b"").decode() for record in records]
        if len(self.values) >= self._expected:
            self.stop.set()


def _consume(kafka: KafkaSettings, producer: ConfirmingProducer, topic: str, group: str, expected: int) -> _Collector:
    collector = _Collector(expected)
    watchdog = threading.Timer(30, collector.stop.set)
    watchdog.start()
    try:
        loop.run(loop.GroupSource(kafka, "t", group, [topic]), collector, producer, collector.stop, batch=100)
    finally:
        watchdog.cancel()
    return collector


def test_what_is_done_is_not_taken_again(kafka: KafkaSettings, producer: ConfirmingProducer, topic: str) -> None:
    group = uuid.uuid4().hex
    _send(producer, topic, [f"a{n}" for n in range(250)])
    first = _consume(kafka, producer, topic, group, 250)
    assert sorted(first.values) == sorted(f"a{n}" for n in range(250))
    assert max(first.batches) > 1, "records that are there already come as a batch"
    _send(producer, topic, ["b"])
    assert _consume(kafka, producer, topic, group, 1).values == ["b"]


def test_a_batch_that_failed_is_taken_again(kafka: KafkaSettings, producer: ConfirmingProducer, topic: str) -> None:
    group = uuid.uuid4().hex
    _send(producer, topic, ["x", "y"])

    def fail(_records: Sequence[Message]) -> None:
        raise RuntimeError("as if the process had died here")

    with pytest.raises(RuntimeError, match="died here"):
        loop.run(loop.GroupSource(kafka, "t", group, [topic]), fail, producer, threading.Event(), batch=10)
    assert sorted(_consume(kafka, producer, topic, group, 2).values) == ["x", "y"]


def test_a_result_that_was_not_delivered_leaves_the_batch_uncommitted(
    kafka: KafkaSettings, producer: ConfirmingProducer, topic: str
) -> None:
    group = uuid.uuid4().hex
    _send(producer, topic, ["x"])
    nowhere = ConfirmingProducer(KafkaSettings(bootstrap_servers="127.0.0.1:1").producer("t", delivery_timeout_ms=300))

    def answer(records: Sequence[Message]) -> None:
        for record in records:
            nowhere.produce("results", record.key(), record.value(), [])

    with pytest.raises(KafkaException, match="timed out"):
        loop.run(loop.GroupSource(kafka, "t", group, [topic]), answer, nowhere, threading.Event(), batch=10)
    assert _consume(kafka, producer, topic, group, 1).values == ["x"]


def test_members_share_and_take_over(kafka: KafkaSettings, producer: ConfirmingProducer, topic: str) -> None:
    group = uuid.uuid4().hex
    seen: dict[str, list[str]] = {"one": [], "two": []}
    lock = threading.Lock()
    stops = {name: threading.Event() for name in seen}

    def handler(name: str) -> Callable[[Sequence[Message]], None]:
        def handle(records: Sequence[Message]) -> None:
            with lock:
                seen[name] += [(record.value() or b"").decode() for record in records]

        return handle

    sources = {name: loop.GroupSource(kafka, name, group, [topic]) for name in seen}
    threads = {
        name: threading.Thread(
            target=loop.run, args=(sources[name], handler(name), producer, stops[name]), kwargs={"batch": 10}
        )
        for name in seen
    }
    # The producer is not shared between threads: nothing is produced by these handlers, so flush() has no work.
    try:
        for thread in threads.values():
            thread.start()
        eventually(lambda: all(source.assigned for source in sources.values()), what="both members assigned")
        sent = [f"v{n}" for n in range(300)]
        _send(ConfirmingProducer(kafka.producer("s", delivery_timeout_ms=10_000)), topic, sent)
        eventually(lambda: len({*seen["one"], *seen["two"]}) == 300, what="all records")
        assert seen["one"]
        assert seen["two"]
        stops["one"].set()
        threads["one"].join(20)
        more = [f"w{n}" for n in range(30)]
        _send(ConfirmingProducer(kafka.producer("s", delivery_timeout_ms=10_000)), topic, more)
        eventually(lambda: {*more} <= {*seen["two"]}, what="the one left taking everything")
    finally:
        for stop in stops.values():
            stop.set()
        for thread in threads.values():
            thread.join(20)
    # A clean leave commits what is done, so nobody repeats it.
    assert sorted(seen["one"] + seen["two"]) == sorted(sent + more)


def test_a_tail_from_the_beginning_hands_over_all_there_is_before_it_is_ready(
    kafka: KafkaSettings, producer: ConfirmingProducer, topic: str
) -> None:
    _send(producer, topic, [f"a{n}" for n in range(50)])
    seen: list[bytes | None] = []
    tail = Tail(kafka, "t", topic, Start.BEGINNING, lambda records: seen.extend(r.value() for r in records))
    tail.start()
    try:
        assert tail.wait_ready(20)
        assert len(seen) == 50
        _send(producer, topic, ["later"])
        eventually(lambda: b"later" in seen)
    finally:
        tail.close()


def test_a_tail_from_the_end_misses_nothing_after_it_is_ready(
    kafka: KafkaSettings, producer: ConfirmingProducer, topic: str
) -> None:
    _send(producer, topic, ["before"])
    seen: list[bytes | None] = []
    tail = Tail(kafka, "t", topic, Start.END, lambda records: seen.extend(r.value() for r in records))
    tail.start()
    try:
        assert tail.wait_ready(20)
        _send(producer, topic, ["after"])
        eventually(lambda: seen)
        assert seen == [b"after"]
    finally:
        tail.close()


def test_a_tail_closes_while_kafka_is_away() -> None:
    tail = Tail(KafkaSettings(bootstrap_servers="127.0.0.1:1"), "t", "any", Start.END, lambda _records: None)
    tail.start()
    assert not tail.wait_ready(0.5)
    tail.close()


def test_a_plain_producer_is_understood(kafka: KafkaSettings, topic: str) -> None:
    """A record without headers or key, as `kafka-console-producer` writes it, has empty ones."""
    plain = Producer(kafka.client("plain"))
    plain.produce(topic, value=b"1")
    plain.flush()
    confirming = ConfirmingProducer(kafka.producer("t", delivery_timeout_ms=5_000))
    assert _consume(kafka, confirming, topic, uuid.uuid4().hex, 1).values == ["1"]
