"""Making the topics of the table, and reading what the broker has."""

from collections.abc import Iterable

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka.admin import AdminClient
from confluent_kafka.cimpl import NewTopic

from recstream.kafka.settings import KafkaSettings
from recstream.messages.topics import Topic


class TopicMismatch(RuntimeError):
    """A topic exists in another shape than the table declares."""


def ensure_topics(
    settings: KafkaSettings, topics: Iterable[Topic], *, replication_factor: int = 1, timeout: float = 30
) -> list[str]:
    """Create the topics that are missing; return their names. Idempotent.

    Raises:
        KafkaException: the broker cannot be reached within `timeout` seconds or refuses a topic.
        TopicMismatch: a topic has fewer partitions than declared, or, where the number may never change, more.
    """
    declared = {topic.name: topic for topic in topics}
    admin = AdminClient(settings.client("admin"))
    existing = admin.list_topics(timeout=timeout).topics
    for name in declared.keys() & existing.keys():
        found, wanted = len(existing[name].partitions), declared[name].partitions
        if found != wanted:
            raise TopicMismatch(f"Topic {name} has {found} partitions, {wanted} are declared.")
    missing = [
        NewTopic(topic.name, topic.partitions, replication_factor, config=topic.config)
        for name, topic in declared.items()
        if name not in existing
    ]
    if not missing:
        return []
    created = []
    for name, future in admin.create_topics(missing, operation_timeout=timeout, request_timeout=timeout).items():
        try:
            future.result()
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:
                raise
        else:
            created.append(name)
    return created
