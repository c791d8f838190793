"""What travels on `inference.requests` and `inference.results`."""

from enum import StrEnum
from typing import Annotated
from uuid import UUID

from msgspec import Meta, Struct

MAX_HISTORY = 1000
MAX_EXCLUDE = 500
MAX_K = 100
MAX_DEADLINE_MS = 12 * 3_600_000
"""Well inside the topics' retention of a day: whatever has not ended by then is still on the log."""

Identifier = Annotated[str, Meta(min_length=1, max_length=64)]


class Status(StrEnum):
    """How a request ended."""

    COMPLETED = "completed"
    FAILED = "failed"
    EXPIRED = "expired"
    CANCELLED = "cancelled"


class Source(StrEnum):
    """What ranked the items."""

    SASREC = "sasrec"
    POPULARITY = "popularity"


class InferenceRequested(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One request for a ranking.

    `history` is oldest first, at most the model's maximum counts. `exclude` holds further ids that must not be
    recommended. `remaining_ms` counts from the record's append time, so a skewed producer clock cannot expire it.
    """

    request_id: UUID
    history: Annotated[list[Identifier], Meta(max_length=MAX_HISTORY)]
    k: Annotated[int, Meta(ge=1, le=MAX_K)]
    user_id: Identifier | None = None
    exclude: Annotated[list[Identifier], Meta(max_length=MAX_EXCLUDE)] = []
    exclude_seen: bool = True
    remaining_ms: Annotated[int, Meta(ge=0, le=MAX_DEADLINE_MS)] | None = None


class ScoredItem(Struct, frozen=True):
    """One recommended item; scores compare within one result only."""

    item_id: Identifier
    score: float


class StageTimings(Struct, frozen=True, kw_only=True):
    """Milliseconds a request spent in each stage, from its append to the topic to its answer. Never negative."""

    queued: float
    batch_wait: float
    inference: float
    total: float


class ResultError(Struct, frozen=True):
    """Why a request did not complete, as the members of RFC 9457 problem details."""

    type: str
    title: str
    detail: str


class InferenceResult(Struct, frozen=True, kw_only=True):
    """What ended a request. The first record of a key on the topic counts, for everyone."""

    request_id: UUID
    status: Status
    items: list[ScoredItem] = []
    model_version: str | None = None
    source: Source | None = None
    reason: str | None = None
    history_length: Annotated[int, Meta(ge=0)] = 0
    unknown_items: Annotated[int, Meta(ge=0)] = 0
    timings_ms: StageTimings | None = None
    error: ResultError | None = None
