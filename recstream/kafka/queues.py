"""How much waits on each topic, as its readers' group sees it, known also while nobody consumes.

A consumer can tell its own lag only while it runs. This looks from outside: the ends of the topics and what the
groups have committed, through the admin client, for whoever keeps running (the api).
"""

from collections.abc import Iterable, Mapping, Sequence

import structlog
from confluent_kafka import ConsumerGroupTopicPartitions, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec  # type: ignore[attr-defined]  # missing in its __all__
from pydantic_settings import SettingsConfigDict

from recstream.kafka.records import Partition
from recstream.kafka.settings import KafkaSettings
from recstream.messages.topics import ACTIVITY_EVENTS, INFERENCE_REQUESTS, INFERENCE_RESULTS, Topic
from recstream.ops import metrics
from recstream.ops.clock import now_ms
from recstream.ops.periodic import Periodic
from recstream.ops.settings import ServiceSettings

log = structlog.get_logger()

_TIMEOUT = 5.0


class GroupSettings(ServiceSettings):
    """`WORKER_GROUP` and `DB_WRITER_GROUP`, which those services read too."""

    model_config = SettingsConfigDict(env_prefix="")

    worker_group: str = "worker"
    db_writer_group: str = "db_writer"

    def topics(self) -> Mapping[str, Sequence[Topic]]:
        """Return what each group consumes."""
        return {
            self.worker_group: (INFERENCE_REQUESTS,),
            self.db_writer_group: (INFERENCE_RESULTS, ACTIVITY_EVENTS),
        }


class QueueWatch(Periodic):
    """Sets the lag and dead-letter gauges every `interval_seconds`, on an admin client of its own.

    While Kafka is away the gauges keep their last values; `kafka_queues_observed_timestamp_seconds` tells their age.
    """

    def __init__(
        self, kafka: KafkaSettings, client_id: str, groups: Mapping[str, Sequence[Topic]], *, interval_seconds: float
    ) -> None:
        super().__init__("queue-watch", self._look, interval_seconds)
        self._config = kafka.client(client_id)
        self._groups = groups
        self._admin: AdminClient | None = None
        self._away = False

    def _look(self) -> None:
        if self._admin is None:
            self._admin = AdminClient(self._config)
        try:
            observe(self._admin, self._groups)
            self._away = False
        except KafkaException as error:
            if not self._away:
                log.warning("queues.unknown", error=str(error))
            self._away = True


def observe(admin: AdminClient, groups: Mapping[str, Sequence[Topic]]) -> None:
    """Read the offsets once and set the gauges. Blocks for some milliseconds.

    Raises:
        KafkaException: the broker does not answer within some seconds or lacks a topic.
    """
    topics = {topic.name: topic for consumed in groups.values() for topic in consumed}
    letters = {name: topic.dead_letters for name, topic in topics.items()}
    partitions = [
        TopicPartition(topic.name, number)
        for topic in (*topics.values(), *letters.values())
        for number in range(topic.partitions)
    ]
    begins = _offsets(admin, partitions, OffsetSpec.earliest())  # type: ignore[no-untyped-call]
    ends = _offsets(admin, partitions, OffsetSpec.latest())  # type: ignore[no-untyped-call]
    for name in topics:
        metrics.TOPIC_END.labels(name).set(_total(ends, name))
    for name, dead in letters.items():
        metrics.DEAD_LETTER_DEPTH.labels(name).set(_total(ends, dead.name) - _total(begins, dead.name))
    for group, consumed in groups.items():
        own = [key for topic in consumed for key in ends if key[0] == topic.name]
        committed = _committed(admin, group, own)
        for topic in consumed:
            # Without a commit, or where retention has passed it by, a group starts at the beginning of what is there.
            done = {key: max(committed[key], begins[key]) for key in own if key[0] == topic.name}
            # The ends were read a moment earlier: what was committed since must not make the lag negative.
            lag = sum(max(0, ends[key] - position) for key, position in done.items())
            metrics.GROUP_LAG.labels(group, topic.name).set(lag)
            metrics.GROUP_COMMITTED.labels(group, topic.name).set(sum(done.values()))
    metrics.QUEUES_OBSERVED.set(now_ms() / 1000)


def _offsets(admin: AdminClient, partitions: Iterable[TopicPartition], spec: OffsetSpec) -> dict[Partition, int]:
    futures = admin.list_offsets(dict.fromkeys(partitions, spec), request_timeout=_TIMEOUT)
    return {(partition.topic, partition.partition): future.result().offset for partition, future in futures.items()}


def _committed(admin: AdminClient, group: str, partitions: Iterable[Partition]) -> dict[Partition, int]:
    """Return each partition's committed offset, a negative number where there is none."""
    asked = ConsumerGroupTopicPartitions(group, [TopicPartition(*partition) for partition in partitions])
    [future] = admin.list_consumer_group_offsets([asked], request_timeout=_TIMEOUT).values()
    return {(found.topic, found.partition): found.offset for found in future.result().topic_partitions}


def _total(offsets: Mapping[Partition, int], topic: str) -> int:
    return sum(offset for (name, _), offset in offsets.items() if name == topic)
