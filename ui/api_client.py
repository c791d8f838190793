"""What the page asks of the API: typed answers, bounded times, and one exception with a sentence for people."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, TypeVar
from uuid import UUID

import httpx
import msgspec
from msgspec import Struct

from recstream.messages.activity import EventType
from recstream.messages.inference import InferenceResult
from recstream.ops.clock import to_rfc3339

T = TypeVar("T")

_HEALTH_SECONDS = 1.0
MAX_ITEMS = 200
"""Most items that the API looks up at once."""


class ApiError(Exception):
    """The API did not do what was asked; the text is a sentence to show. `status` is None where it did not answer."""

    def __init__(self, sentence: str, status: int | None = None) -> None:
        super().__init__(sentence)
        self.status = status


class User(Struct, frozen=True):
    """A person that has interacted."""

    user_id: str
    first_seen_at: datetime
    last_seen_at: datetime


class UserPage(Struct, frozen=True):
    """Users in the order of their ids; `next_cursor` is None on the last page."""

    users: list[User]
    next_cursor: str | None


class StoredInteraction(Struct, frozen=True):
    """An interaction as it is stored; `title` is None for an item that the catalogue does not hold."""

    item_id: str
    event_type: str
    created_at: datetime
    title: str | None
    genres: list[str]


class _InteractionList(Struct, frozen=True):
    interactions: list[StoredInteraction]


class Item(Struct, frozen=True):
    """An item of the catalogue."""

    item_id: str
    title: str
    genres: list[str]


class _ItemList(Struct, frozen=True):
    items: list[Item]


class Recommendation(Struct, frozen=True):
    """A request and, when it has ended, its result, as the API records it."""

    request_id: UUID
    status: str
    user_id: str | None
    created_at: datetime
    completed_at: datetime | None = None
    result: InferenceResult | None = None


class Worker(Struct, frozen=True):
    """A worker's latest word on itself; `alive` where it has reported lately.

    `model_version` answers requests now; `announced_version` is what `state` and `detail` speak of.
    """

    worker_id: str
    state: str
    alive: bool
    model_version: str | None
    announced_version: str | None = None
    detail: str | None = None
    reported_at: datetime | None = None


class _WorkerList(Struct, frozen=True):
    workers: list[Worker]


class Comparison(Struct, frozen=True):
    """A candidate beside one opponent: mean NDCG@10 of each, and the difference's 95% confidence interval."""

    opponent: str
    candidate_ndcg: float
    opponent_ndcg: float
    low: float
    high: float


class Decision(Struct, frozen=True):
    """Why a trained model went live or not, and what it was compared with for that."""

    reason: str = ""
    against: list[Comparison] = []


class Model(Struct, frozen=True):
    """A bundle that was made; the one whose `status` is `live` is what every worker shall serve.

    `generation` counts announcements and is None for one that was never live. `decision` says why it went live or not.
    """

    version: str
    kind: str
    status: str
    generation: int | None
    metrics: dict[str, float]
    created_at: datetime
    promoted_at: datetime | None
    decision: Decision | None = None


class _ModelList(Struct, frozen=True):
    models: list[Model]


class Promotion(Struct, frozen=True):
    """A model that was made live."""

    version: str
    generation: int


class Health(Struct, frozen=True):
    """What the API says of its parts, by name."""

    checks: dict[str, bool]


class DeadLetter(Struct, frozen=True):
    """A record that was set aside; `topic`, `partition` and `offset` tell where it lay before."""

    id: str
    reason: str
    detail: str
    service: str | None
    topic: str
    partition: int | None
    offset: int | None
    set_aside_at: datetime
    redrives: int
    redriven_at: datetime | None


class DeadLetterPage(Struct, frozen=True):
    """Dead letters, latest first; `next_cursor` is None on the last page."""

    dead_letters: list[DeadLetter]
    next_cursor: str | None


class Header(Struct, frozen=True):
    """A header of a record."""

    name: str
    value: str | None


class DeadLetterDetail(Struct, frozen=True):
    """What a dead letter holds, as text as far as it is UTF-8."""

    headers: list[Header]
    key: str | None
    value: str | None


class Redrive(Struct, frozen=True):
    """A dead letter that was sent to its topic once more; `repeated` where it had been before."""

    topic: str
    redriven_at: datetime
    repeated: bool


class _Problem(Struct, frozen=True):
    detail: str = ""


class ApiClient:
    """Calls the API; one for the whole process. Every method raises ApiError."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self.url = url
        # trust_env off: a proxy of the environment is for other addresses than the services' own.
        self._client = httpx.Client(
            base_url=url, timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, 2.0)), trust_env=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def users(self, prefix: str, cursor: str | None, limit: int) -> UserPage:
        """Return a page of the users whose ids begin with `prefix`."""
        query: dict[str, str | int] = {"prefix": prefix, "limit": limit}
        if cursor is not None:
            query["cursor"] = cursor
        return self._get("/v1/users", UserPage, query)

    def interactions(self, user_id: str, limit: int) -> list[StoredInteraction]:
        """Return the user's latest interactions, latest first."""
        path = f"/v1/users/{_segment(user_id)}/interactions"
        return self._get(path, _InteractionList, {"limit": limit}).interactions

    def items(self, item_ids: Sequence[str]) -> list[Item]:
        """Return the catalogue's items of at most `MAX_ITEMS` ids; ids that it does not hold are left out."""
        return self._get("/v1/items", _ItemList, {"ids": ",".join(item_ids)}).items if item_ids else []

    def items_titled(self, part: str, limit: int) -> list[Item]:
        """Return items whose title holds `part`, in any case."""
        return self._get("/v1/items", _ItemList, {"title": part, "limit": limit}).items

    def recommend(self, body: dict[str, Any]) -> Recommendation:
        """Ask for recommendations; returns as soon as the request is accepted."""
        return self._send("POST", "/v1/recommendations", Recommendation, json=body)

    def recommendation(self, request_id: UUID) -> Recommendation:
        """Return a request as it is recorded."""
        return self._get(f"/v1/recommendations/{request_id}", Recommendation, {})

    def record(self, user_id: str, item_id: str, event_type: EventType, occurred_at: datetime) -> None:
        """Record an interaction; returns when the broker has it."""
        body = {
            "user_id": user_id,
            "item_id": item_id,
            "event_type": event_type,
            "occurred_at": to_rfc3339(occurred_at),
        }
        self._send("POST", "/v1/interactions", msgspec.Raw, json=body)

    def workers(self) -> list[Worker]:
        """Return what the workers say of themselves."""
        return self._get("/v1/workers", _WorkerList, {}).workers

    def models(self) -> list[Model]:
        """Return the models that were made, newest first."""
        return self._get("/v1/models", _ModelList, {}).models

    def promote(self, version: str) -> Promotion:
        """Make a model live; workers change over by themselves."""
        return self._send("POST", f"/v1/models/{_segment(version)}/promote", Promotion)

    def dead_letters(self, cursor: str | None, limit: int) -> DeadLetterPage:
        """Return a page of the dead letters of all topics."""
        query: dict[str, str | int] = {"limit": limit}
        if cursor is not None:
            query["cursor"] = cursor
        return self._get("/v1/dead-letters", DeadLetterPage, query)

    def dead_letter(self, letter_id: str) -> DeadLetterDetail:
        """Return what a dead letter holds."""
        return self._get(f"/v1/dead-letters/{_segment(letter_id)}", DeadLetterDetail, {})

    def redrive(self, letter_id: str) -> Redrive:
        """Send a dead letter to its topic once more."""
        return self._send("POST", f"/v1/dead-letters/{_segment(letter_id)}/redrive", Redrive)

    def metrics(self) -> str:
        """Return the API's own metrics, in Prometheus' text format."""
        response = self._exchange("GET", "/metrics", timeout=_HEALTH_SECONDS)
        if not response.is_success:
            raise _refusal(response)
        return response.text

    def health(self) -> Health:
        """Return which of the API's own parts are well."""
        response = self._exchange("GET", "/health/ready", timeout=_HEALTH_SECONDS)
        if response.status_code not in {200, 503}:
            raise _refusal(response)
        return _decoded(response, Health)

    def _get(self, path: str, kind: type[T], query: dict[str, str | int]) -> T:
        return self._send("GET", path, kind, params=query)

    def _send(self, method: str, path: str, kind: type[T], **arguments: Any) -> T:
        response = self._exchange(method, path, **arguments)
        if not response.is_success:
            raise _refusal(response)
        return _decoded(response, kind)

    def _exchange(self, method: str, path: str, **arguments: Any) -> httpx.Response:
        try:
            return self._client.request(method, path, **arguments)
        except httpx.TimeoutException as error:
            raise ApiError(f"The API at {self.url} did not answer in time.") from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise ApiError(f"The API at {self.url} cannot be reached.") from error


def _segment(text: str) -> str:
    # An id may hold any visible character but "/", and "?" or "#" would end the path.
    return "".join(f"%{byte:02X}" for byte in text.encode())


def _decoded(response: httpx.Response, kind: type[T]) -> T:
    try:
        return msgspec.json.decode(response.content, type=kind)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise ApiError("What answered is not this version's API.", response.status_code) from error


def _refusal(response: httpx.Response) -> ApiError:
    try:
        detail = msgspec.json.decode(response.content, type=_Problem).detail
    except (msgspec.MsgspecError, UnicodeDecodeError):
        detail = ""
    return ApiError(detail or f"The API answered with status {response.status_code}.", response.status_code)
