"""The bodies of HTTP requests and answers. They are not the Kafka messages: each side can change by itself."""

import math
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any, Self
from uuid import UUID

from pydantic import AfterValidator, AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from recstream.messages.activity import EventType
from recstream.messages.identifiers import is_identifier
from recstream.messages.inference import MAX_DEADLINE_MS, MAX_EXCLUDE, MAX_HISTORY, MAX_K
from recstream.ops.clock import utc_now

MAX_BATCH = 1000
_CLOCK_TOLERANCE = timedelta(hours=24)
_EARLIEST_YEAR = 1970


def _integer_to_text(value: Any) -> Any:
    # bool is an int to Python, but `true` is no id; beyond 64 digits it is not one either.
    if isinstance(value, int) and not isinstance(value, bool):
        return str(value) if abs(value) < 10**64 else ""
    return value


def _checked_identifier(text: str) -> str:
    if not is_identifier(text):
        raise ValueError("an id is 1-64 visible characters without '/'")
    return text


_ID_SCHEMA = {"minLength": 1, "maxLength": 64}
UserId = Annotated[str, AfterValidator(_checked_identifier), Field(strict=True, json_schema_extra=_ID_SCHEMA)]
ItemId = Annotated[
    str,
    BeforeValidator(_integer_to_text, json_schema_input_type=str | int),
    AfterValidator(_checked_identifier),
    Field(strict=True, json_schema_extra=_ID_SCHEMA),
]


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class RecommendationRequest(_Body):
    """Who wants recommendations, or on which history they shall be based."""

    user_id: UserId | None = None
    history: Annotated[list[ItemId], Field(max_length=MAX_HISTORY)] | None = Field(
        default=None, description="Oldest first; replaces what is stored of the user."
    )
    history_limit: Annotated[int, Field(strict=True, ge=1, le=MAX_HISTORY)] = Field(
        default=200, description="How many of the user's stored interactions to use, the latest ones."
    )
    recent_items: Annotated[list[ItemId], Field(max_length=100)] = Field(
        default=[], description="What just happened, oldest first; appended to the history."
    )
    k: Annotated[int, Field(strict=True, ge=1, le=MAX_K)] = 10
    exclude: Annotated[list[ItemId], Field(max_length=MAX_EXCLUDE)] = Field(
        default=[], description="Items not to recommend, besides those seen and dismissed."
    )
    exclude_seen: Annotated[bool, Field(strict=True)] = True
    deadline_ms: Annotated[int, Field(strict=True, ge=1, le=MAX_DEADLINE_MS)] | None = Field(
        default=None, description="After so many milliseconds an answer is of no use; the request then ends as EXPIRED."
    )

    @model_validator(mode="after")
    def _has_a_subject(self) -> Self:
        if self.user_id is None and self.history is None:
            raise ValueError("user_id or history is required")
        return self


class RequestStatus(StrEnum):
    """Where a request is: PENDING, or how it ended."""

    PENDING = "PENDING"
    COMPLETED = "COMPLETED"
    FAILED = "FAILED"
    EXPIRED = "EXPIRED"
    CANCELLED = "CANCELLED"


class RecommendedItem(BaseModel):
    """One item; scores compare within one result only."""

    item_id: str
    score: float


class Timings(BaseModel):
    """Milliseconds by stage."""

    queued: float
    batch_wait: float
    inference: float
    total: float


class RequestError(BaseModel):
    """Why a request did not complete."""

    type: str = Field(examples=["/problems/bad-record", "/problems/model-error", "/problems/expired"])
    title: str
    detail: str


class RecommendationResult(BaseModel):
    """What ended the request: a worker's answer, or why there is none."""

    request_id: UUID
    status: str
    items: list[RecommendedItem] = []
    model_version: str | None = None
    source: str | None = Field(default=None, description="sasrec, or popularity where it is a fallback.")
    reason: str | None = Field(default=None, description="Why it is a fallback.")
    history_length: int = 0
    unknown_items: int = 0
    timings_ms: Timings | None = None
    error: RequestError | None = None


class Recommendation(BaseModel):
    """A request and, when it has ended, its result."""

    request_id: UUID
    status: RequestStatus
    user_id: str | None
    created_at: datetime
    completed_at: datetime | None
    result: RecommendationResult | None
    error: RequestError | None


def _plausible(moment: datetime) -> datetime:
    if moment.year < _EARLIEST_YEAR or moment - utc_now() > _CLOCK_TOLERANCE:
        raise ValueError("the time lies before 1970 or more than a day ahead")
    return moment


def _finite(value: float) -> float:
    if not math.isfinite(value):
        raise ValueError("not a finite number")
    return value


class Interaction(_Body):
    """Something a person did."""

    user_id: UserId
    item_id: ItemId
    event_type: EventType = EventType.VIEW
    weight: Annotated[float, AfterValidator(_finite)] = Field(default=1.0, strict=True)
    occurred_at: Annotated[AwareDatetime, AfterValidator(_plausible)] | None = Field(
        default=None, description="Now, where it is not given."
    )
    event_id: UUID | None = Field(default=None, description="Give one to make a repetition harmless.")


class InteractionBatch(_Body):
    """Several interactions at once."""

    interactions: Annotated[list[Interaction], Field(min_length=1, max_length=MAX_BATCH)]


class InteractionsAccepted(BaseModel):
    """The ids under which the interactions are stored."""

    event_ids: list[UUID]


class User(BaseModel):
    """A person that has interacted."""

    user_id: str
    first_seen_at: datetime
    last_seen_at: datetime


class UserPage(BaseModel):
    """Users in the order of their ids."""

    users: list[User]
    next_cursor: str | None


class StoredInteraction(BaseModel):
    """An interaction as it is stored."""

    item_id: str
    event_type: str
    weight: float
    created_at: datetime
    title: str | None
    genres: list[str]


class InteractionList(BaseModel):
    """A user's interactions, latest first."""

    interactions: list[StoredInteraction]


def _storable(text: str) -> str:
    if "\x00" in text:
        raise ValueError("must not hold NUL")
    return text


Text = Annotated[str, Field(min_length=1, max_length=500, strict=True), AfterValidator(_storable)]


class ItemDescription(_Body):
    """What an item is called and what it is."""

    title: Text
    genres: Annotated[list[Text], Field(max_length=50)] = []


class Item(BaseModel):
    """An item of the catalogue."""

    item_id: str
    title: str
    genres: list[str]


class ItemList(BaseModel):
    """Items found; ids that have no item are left out."""

    items: list[Item]


class Model(BaseModel):
    """A trained or seeded bundle."""

    model_config = ConfigDict(protected_namespaces=())

    version: str
    kind: str
    status: str = Field(description="candidate, live, retired, refused, or pruned: its files were removed.")
    generation: int | None
    metrics: dict[str, float]
    decision: dict[str, Any] | None = Field(
        description="Why it went live or not: verdict, reason, what it was compared with and on whom, data windows."
    )
    created_at: datetime
    promoted_at: datetime | None


class ModelList(BaseModel):
    """Models, newest first."""

    models: list[Model]


class Promotion(BaseModel):
    """A model that was made live."""

    version: str
    generation: int


class Worker(BaseModel):
    """A worker's latest word on itself."""

    model_config = ConfigDict(protected_namespaces=())

    worker_id: str
    state: str
    alive: bool = Field(description="Whether it has reported lately.")
    model_version: str | None
    announced_version: str | None
    generation: int | None
    detail: str | None
    reported_at: datetime


class WorkerList(BaseModel):
    """Workers by id."""

    workers: list[Worker]


class DeadLetter(BaseModel):
    """A record that was set aside. `topic`, `partition` and `offset` tell where it lay before."""

    id: str = Field(examples=["inference.requests.dlq:0:17"])
    reason: str = Field(examples=["malformed", "empty", "unknown_type", "unknown_request", "crash"])
    detail: str
    service: str | None = Field(description="Who set it aside.")
    topic: str
    partition: int | None
    offset: int | None
    appended_at: datetime | None
    set_aside_at: datetime
    redrives: int = Field(description="How often it was sent once more before it came here.")
    redriven_at: datetime | None = Field(description="When it was sent once more from here.")


class DeadLetterPage(BaseModel):
    """Dead letters, latest first."""

    dead_letters: list[DeadLetter]
    next_cursor: str | None


class DeadLetterHeader(BaseModel):
    """A header of the record itself."""

    name: str
    value: str | None


class DeadLetterDetail(DeadLetter):
    """A dead letter with what it holds. Text that is not UTF-8 is shown as far as it goes; the base64 is exact."""

    headers: list[DeadLetterHeader]
    key: str | None
    value: str | None
    value_base64: str | None


class Redrive(BaseModel):
    """A dead letter that was sent to its topic once more."""

    id: str
    topic: str
    redriven_at: datetime
    repeated: bool = Field(description="It had been sent before this call, which sent nothing.")


class ProblemDetails(BaseModel):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, str]] | None = None
