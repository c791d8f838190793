"""Records that were set aside: look at them, send them once more."""

import asyncio
import base64
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Annotated, TypeVar

import msgspec
import structlog
from confluent_kafka import KafkaException
from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator

from api.problems import Problem, not_found, unavailable
from api.schemas import DeadLetter, DeadLetterDetail, DeadLetterHeader, DeadLetterPage, Redrive
from api.services import Services
from recstream.db.engine import connect
from recstream.kafka import dead_letters
from recstream.kafka.dead_letters import SOURCES, LetterId, UnknownLetter, find_letter, list_letters
from recstream.kafka.producer import ConfirmingProducer
from recstream.kafka.redrive import NotRedrivable, TooManyRedrives, redrive, redriven_at

log = structlog.get_logger()

router = APIRouter(prefix="/v1/dead-letters", tags=["dead letters"])

T = TypeVar("T")

_DELIVERY_TIMEOUT_MS = 5_000
_at_once = asyncio.Semaphore(2)
"""Each call opens clients of its own; this is for operators, not for traffic."""


def _source(name: str | None) -> str | None:
    if name is not None and name not in SOURCES:
        raise ValueError(f"one of {', '.join(SOURCES)}")
    return name


_Id = Annotated[str, Path(description="As the list gives it: topic, partition and offset.", max_length=200)]


@router.get("")
async def list_dead_letters(
    services: Services,
    topic: Annotated[str | None, AfterValidator(_source), Query(description="Only of this topic.")] = None,
    limit: Annotated[int, Query(ge=1, le=200)] = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.", max_length=400)] = None,
) -> DeadLetterPage:
    """List dead letters, latest first, without their contents."""
    sources = [SOURCES[topic]] if topic is not None else list(SOURCES.values())
    before = _decode_cursor(cursor) if cursor is not None else {}

    def read() -> tuple[list[DeadLetter], list[LetterId], bool]:
        letters = list_letters(services.kafka, sources, limit + 1, before)
        with connect(services.postgres, "api") as connection:
            redriven = redriven_at(connection, letters[:limit])
        page = [DeadLetter.model_validate(_summary(letter, redriven)) for letter in letters[:limit]]
        return page, [letter.id for letter in letters[:limit]], len(letters) > limit

    page, ids, more = await _in_thread(read)
    lowest = before | {letter_id.topic: letter_id.offset for letter_id in ids}
    return DeadLetterPage(dead_letters=page, next_cursor=_encode_cursor(lowest) if more else None)


@router.get("/{dead_letter_id}")
async def read_dead_letter(services: Services, dead_letter_id: _Id) -> DeadLetterDetail:
    """Return a dead letter with its own headers, key and value."""

    def read() -> DeadLetterDetail:
        letter = find_letter(services.kafka, LetterId.parse(dead_letter_id))
        with connect(services.postgres, "api") as connection:
            redriven = redriven_at(connection, [letter])
        return DeadLetterDetail.model_validate(
            {
                **_summary(letter, redriven),
                "headers": [DeadLetterHeader(name=name, value=_text(value)) for name, value in letter.headers],
                "key": _text(letter.key),
                "value": _text(letter.value),
                "value_base64": base64.b64encode(letter.value).decode() if letter.value is not None else None,
            }
        )

    return await _in_thread(read)


@router.post(
    "/{dead_letter_id}/redrive",
    responses={
        409: {"description": "It would be of no use: it came back too often, or its request has ended."},
        429: {"description": "Too many within a minute, by all together."},
    },
)
async def redrive_dead_letter(services: Services, dead_letter_id: _Id) -> Redrive:
    """Send a dead letter to its topic once more. Repeating this sends nothing and tells when it was sent."""

    def send() -> Redrive:
        letter = find_letter(services.kafka, LetterId.parse(dead_letter_id))
        producer = ConfirmingProducer(services.kafka.producer("api-redrive", delivery_timeout_ms=_DELIVERY_TIMEOUT_MS))
        with connect(services.postgres, "api") as connection:
            connection.autocommit = True
            sent = redrive(connection, producer, letter, services.redrive, service="api")
        return Redrive(id=str(letter.id), topic=letter.source.name, redriven_at=sent.at, repeated=sent.repeated)

    return await _in_thread(send)


async def _in_thread(call: Callable[[], T]) -> T:
    async with _at_once:
        try:
            return await asyncio.to_thread(call)
        except UnknownLetter:
            raise not_found("dead letter") from None
        except NotRedrivable as error:
            raise Problem(409, "not-redrivable", str(error)) from error
        except TooManyRedrives:
            detail = "As many as are allowed within a minute were sent once more."
            raise Problem(429, "too-many-redrives", detail, {"Retry-After": "10"}) from None
        except KafkaException as error:
            log.warning("dead_letters.kafka", error=str(error))
            raise unavailable("Kafka does not answer.") from error


def _summary(letter: dead_letters.DeadLetter, redriven: Mapping[LetterId, datetime]) -> dict[str, object]:
    return {
        "id": str(letter.id),
        "reason": letter.reason,
        "detail": letter.detail,
        "service": letter.service,
        "topic": letter.source.name,
        "partition": letter.source_partition,
        "offset": letter.source_offset,
        "appended_at": letter.source_time,
        "set_aside_at": letter.set_aside_at,
        "redrives": letter.redrives,
        "redriven_at": redriven.get(letter.id),
    }


def _text(value: bytes | None) -> str | None:
    return value.decode(errors="replace") if value is not None else None


def _encode_cursor(before: Mapping[str, int]) -> str:
    return base64.urlsafe_b64encode(msgspec.json.encode(before)).decode()


def _decode_cursor(cursor: str) -> dict[str, int]:
    try:
        return msgspec.json.decode(base64.b64decode(cursor.encode("ascii"), b"-_", validate=True), type=dict[str, int])
    except (ValueError, msgspec.MsgspecError):
        raise Problem(422, "invalid-cursor", "The cursor is not one that this API gave.") from None
