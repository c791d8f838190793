"""What travels on `system.control` and `system.status`."""

from datetime import datetime
from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct


class AnnouncementReason(StrEnum):
    """Why a model was announced."""

    TRAINED = "trained"
    PROMOTED = "promoted"
    ROLLBACK = "rollback"
    SEEDED = "seeded"


class ModelAnnounced(Struct, frozen=True, kw_only=True):
    """Which bundle every worker shall serve.

    The newest has the highest `position`: within an `epoch` (a UUIDv7 made with the database) the generation counts,
    and a newer epoch, that of a database made anew, outranks any generation. `folder` is relative to the checkpoints
    folder. `fallback_version` is the last version known to be good.
    """

    epoch: UUID
    generation: Annotated[int, Meta(ge=1)]
    model_version: str
    folder: str
    manifest_sha256: Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
    reason: AnnouncementReason
    announced_at: datetime
    fallback_version: str | None = None
    fallback_manifest_sha256: str | None = None
    metrics: dict[str, float] = {}

    @property
    def position(self) -> tuple[UUID, int]:
        """Return what orders announcements, wherever and however often they are read."""
        return self.epoch, self.generation


class WorkerState(StrEnum):
    """What a worker last did about the announced model."""

    STARTING = "starting"
    LOADED = "loaded"
    REJECTED = "rejected"


class WorkerStatus(Struct, frozen=True, kw_only=True):
    """A worker's word on what it serves.

    `model_version` is what answers requests now; `announced_version` is what `state` speaks of, with `detail` saying
    why where it was rejected.
    """

    worker_id: str
    state: WorkerState
    reported_at: datetime
    model_version: str | None = None
    announced_version: str | None = None
    generation: int | None = None
    detail: str | None = None
