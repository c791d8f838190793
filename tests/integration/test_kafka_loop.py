"""The consume loop and the tail against the real broker."""

import contextlib
import threading
import uuid
from collections.abc import Callable, Iterator, Sequence

import pytest
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from recstream.kafka import loop
from recstream.kafka.breaker import Breaker, Tripped
from recstream.kafka.producer import ConfirmingProducer
from recstream.kafka.settings import ConsumerSettings, KafkaSettings
from recstream.kafka.tail import Start, Tail
from recstream.messages.codec import BadMessage, Reason
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
        self.aside: list[str] = []
        self.batches: list[int] = []
        self.stop = threading.Event()
        self._expected = expected

    def __call__(self, records: Sequence[Message]) -> None:
        self.batches.append(len(records))
        self.values += [(record.value() or b"").decode() for record in records]
        self._count()

    def set_aside(self, record: Message, error: BadMessage) -> None:
        self.aside.append((record.value() or b"").decode())
        self._count()

    def _count(self) -> None:
        if len(self.values) + len(self.aside) >= self._expected:
            self.stop.set()


class _Calls:
    """Handles by calling a function."""

    def __init__(self, function: Callable[[Sequence[Message]], None]) -> None:
        self._function = function

    def __call__(self, records: Sequence[Message]) -> None:
        self._function(records)

    def set_aside(self, record: Message, error: BadMessage) -> None:
        raise AssertionError("nothing here ends the process each time")


def _run(
    kafka: KafkaSettings,
    topic: str,
    group: str,
    handler: loop.Handler,
    producer: ConfirmingProducer,
    stop: threading.Event,
    breaker: Breaker | None = None,
) -> None:
    """Run the loop as one member of a group until told to stop, half a minute at most."""
    source = loop.GroupSource(kafka, "t", group, [topic])
    breaker = breaker or Breaker(ConsumerSettings())
    watchdog = threading.Timer(30, stop.set)
    watchdog.start()
    try:
        loop.run(source, handler, producer, stop, batch=100, breaker=breaker, max_attempts=2)
    finally:
        watchdog.cancel()


def _consume(kafka: KafkaSettings, producer: ConfirmingProducer, topic: str, group: str, expected: int) -> _Collector:
    collector = _Collector(expected)
    _run(kafka, topic, group, collector, producer, collector.stop)
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
        _run(kafka, topic, group, _Calls(fail), producer, threading.Event())
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
        _run(kafka, topic, group, _Calls(answer), nowhere, threading.Event())
    assert _consume(kafka, producer, topic, group, 1).values == ["x"]


class _Explosive(_Collector):
    """Ends the loop at one record, as if the process had died there."""

    def __call__(self, records: Sequence[Message]) -> None:
        if any(record.value() == b"explosive" for record in records):
            raise _Boom
        super().__call__(records)


def test_a_record_that_ends_the_process_each_time_is_set_aside(
    kafka: KafkaSettings, producer: ConfirmingProducer, topic: str
) -> None:
    """RELIABILITY row 16, with an exception for a death; tests/faults has a real one."""
    group = uuid.uuid4().hex
    sent = [f"a{n}" for n in range(20)] + ["explosive"] + [f"b{n}" for n in range(20)]
    for value in sent:
        producer.produce(topic, b"one key, so one partition", value.encode(), [])
    producer.flush()
    handler = _Explosive(len(sent))
    starts = 0
    while not handler.stop.is_set():
        starts += 1
        assert starts <= 5
        with contextlib.suppress(_Boom):
            _run(kafka, topic, group, handler, producer, handler.stop)
    assert handler.aside == ["explosive"]
    assert handler.values == [value for value in sent if value != "explosive"], "each neighbour once, in order"
    assert starts == 4, "the batch's death, the two attempts by itself, and the start that sets it aside"
    assert max(handler.batches) == 1, "one by one until past it"


class _Boom(Exception):
    pass


def test_a_record_that_was_finished_is_not_suspected_any_more(
    kafka: KafkaSettings, producer: ConfirmingProducer, topic: str
) -> None:
    """The mark of an attempt goes as soon as the record is done: a kill right after it is no fault of the record's."""
    group = uuid.uuid4().hex
    _send(producer, topic, ["innocent"])
    # An interval that never comes: what is committed below is not the periodic commit's doing.
    sources = [loop.GroupSource(kafka, "t", group, [topic], commit_interval_seconds=3600) for _ in range(2)]
    for source in sources:
        source.join()
        [record] = eventually(lambda: source.take(10), what="the record")  # noqa: B023 - called at once
        assert source.begin([record]) == 0
        if source is sources[0]:
            source.leave(clean=False)  # so the next one takes records one by one, and counts
    partition, offset = record.partition(), record.offset()
    assert partition is not None
    assert offset is not None
    looker = Consumer(kafka.consumer("t-look", group))

    def committed() -> tuple[int, str | None]:
        [found] = looker.committed([TopicPartition(topic, partition)], timeout=10)
        return found.offset, found.metadata

    try:
        assert committed() == (offset, "attempt:1")
        source.done([record])
        eventually(lambda: committed() == (offset + 1, "running"), within=10, what="the mark's end")
    finally:
        source.leave(clean=True)
        looker.close()


def test_a_failure_outside_the_records_makes_none_suspect(
    kafka: KafkaSettings, producer: ConfirmingProducer, topic: str
) -> None:
    group = uuid.uuid4().hex
    producer.produce(topic, b"k", b"innocent", [])
    producer.flush()

    def unfinished(_records: Sequence[Message]) -> None:
        raise loop.Unfinished("something else is away")

    nowhere = ConfirmingProducer(KafkaSettings(bootstrap_servers="127.0.0.1:1").producer("t", delivery_timeout_ms=200))

    def undelivered(_records: Sequence[Message]) -> None:
        nowhere.produce("x", b"", b"", [])

    for _ in range(2):
        with pytest.raises(loop.Unfinished):
            _run(kafka, topic, group, _Calls(unfinished), producer, threading.Event())
        with pytest.raises(KafkaException):
            _run(kafka, topic, group, _Calls(undelivered), nowhere, threading.Event())
    assert _consume(kafka, producer, topic, group, 1).values == ["innocent"]


class _Judging(_Collector):
    """Sets aside what begins with `bad`, where the breaker lets it."""

    def __init__(self, expected: int, breaker: Breaker) -> None:
        super().__init__(expected)
        self.breaker = breaker
        self.trips = 0

    def __call__(self, records: Sequence[Message]) -> None:
        bad = [record for record in records if (record.value() or b"").startswith(b"bad")]
        try:
            self.breaker.judge(good=len(records) - len(bad), bad=len(bad))
        except Tripped:
            self.trips += 1
            raise
        for record in bad:
            self.set_aside(record, BadMessage(Reason.MALFORMED, "a test's"))
        super().__call__([record for record in records if record not in bad])


def test_a_run_of_bad_records_is_left_until_a_probe_finds_a_good_one(
    kafka: KafkaSettings, producer: ConfirmingProducer, topic: str
) -> None:
    group = uuid.uuid4().hex
    sent = [f"bad{n}" for n in range(25)] + ["good1", "bad25", "good2"]
    # One partition and one batch each, so that the run is as long as it is written.
    breaker = Breaker(ConsumerSettings(breaker_records=12, breaker_seconds=0.3))
    handler = _Judging(len(sent), breaker)
    for value in sent[:25]:
        producer.produce(topic, b"one key", value.encode(), [])
    producer.flush()

    def send_the_rest() -> None:
        eventually(lambda: handler.trips, what="the breaker")
        own = ConfirmingProducer(kafka.producer("s", delivery_timeout_ms=10_000))
        for value in sent[25:]:
            own.produce(topic, b"one key", value.encode(), [])
        own.flush()

    rest = threading.Thread(target=send_the_rest)
    rest.start()
    _run(kafka, topic, group, handler, producer, handler.stop, breaker)
    rest.join()
    assert handler.trips == 1
    assert sorted(handler.aside) == sorted(f"bad{n}" for n in range(26)), "each once, a few a probe"
    assert handler.values == ["good1", "good2"]
    assert breaker.closed


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
            target=loop.run,
            args=(sources[name], _Calls(handler(name)), producer, stops[name]),
            kwargs={"batch": 10, "breaker": Breaker(ConsumerSettings()), "max_attempts": 3},
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
