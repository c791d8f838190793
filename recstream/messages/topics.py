"""Every topic, declared once. Topic creation, the AsyncAPI document's test and the consumers read this table."""

from dataclasses import dataclass
from typing import Literal

from msgspec import Struct

from recstream.messages.activity import InteractionRecorded
from recstream.messages.control import ModelAnnounced, WorkerStatus
from recstream.messages.inference import InferenceRequested, InferenceResult

_HOUR_MS = 3_600_000
_DAY_MS = 24 * _HOUR_MS


@dataclass(frozen=True, slots=True)
class Topic:
    """One topic and its contract.

    `message` is None for dead letters, which hold what could not be understood. `retention_ms` is None for compacted
    topics. `writers` and `readers` name services.
    """

    name: str
    key: str
    partitions: int
    cleanup: Literal["delete", "compact"]
    writers: tuple[str, ...]
    readers: tuple[str, ...]
    message: type[Struct] | None = None
    retention_ms: int | None = None
    dead_lettered: bool = False

    @property
    def config(self) -> dict[str, str]:
        """Return the broker's topic settings."""
        config = {
            "cleanup.policy": self.cleanup,
            # The broker's clock is the only one that every reader can compare: deadlines and delays count from it.
            "message.timestamp.type": "LogAppendTime",
        }
        if self.retention_ms is not None:
            config["retention.ms"] = str(self.retention_ms)
        return config

    @property
    def dead_letters(self) -> "Topic":
        """Return the topic that takes this one's bad records. Raises ValueError where there is none."""
        if not self.dead_lettered:
            raise ValueError(f"{self.name} has no dead-letter topic")
        return Topic(
            name=f"{self.name}.dlq",
            key=self.key,
            partitions=1,
            cleanup="delete",
            writers=self.readers,
            readers=("admin", "api"),
            retention_ms=14 * _DAY_MS,
        )


INFERENCE_REQUESTS = Topic(
    name="inference.requests",
    key="request_id",
    partitions=6,
    cleanup="delete",
    writers=("api", "admin"),
    readers=("worker",),
    message=InferenceRequested,
    retention_ms=_DAY_MS,
    dead_lettered=True,
)
INFERENCE_RESULTS = Topic(
    name="inference.results",
    key="request_id",
    partitions=6,  # never changed: the order of a key's records decides which one counts
    cleanup="delete",
    writers=("worker", "api", "db_writer", "admin"),
    readers=("db_writer", "api", "ui"),
    message=InferenceResult,
    retention_ms=_DAY_MS,
    dead_lettered=True,
)
ACTIVITY_EVENTS = Topic(
    name="activity.events",
    key="user_id",
    partitions=6,
    cleanup="delete",
    writers=("api", "admin"),
    readers=("db_writer",),
    message=InteractionRecorded,
    retention_ms=7 * _DAY_MS,
    dead_lettered=True,
)
SYSTEM_CONTROL = Topic(
    name="system.control",
    key="model",
    partitions=1,
    cleanup="compact",
    writers=("trainer", "seeder", "admin", "api"),
    readers=("worker",),
    message=ModelAnnounced,
)
SYSTEM_STATUS = Topic(
    name="system.status",
    key="worker_id",
    partitions=1,
    cleanup="compact",
    writers=("worker",),
    readers=("api", "ui"),
    message=WorkerStatus,
)

_DECLARED = (INFERENCE_REQUESTS, INFERENCE_RESULTS, ACTIVITY_EVENTS, SYSTEM_CONTROL, SYSTEM_STATUS)
TOPICS = _DECLARED + tuple(topic.dead_letters for topic in _DECLARED if topic.dead_lettered)

CONTROL_KEY = b"model"
"""The one key of `system.control`: the newest announcement is what a starting worker needs."""
