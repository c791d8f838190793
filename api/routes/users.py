"""The people known, and what they did."""

import base64
import binascii
from typing import Annotated

from fastapi import APIRouter, Path, Query
from pydantic import AfterValidator
from sqlalchemy import select

from api.problems import Problem
from api.schemas import InteractionList, StoredInteraction, User, UserId, UserPage
from api.services import Services
from recstream.db.tables import interactions, items, users
from recstream.messages.identifiers import is_identifier

router = APIRouter(prefix="/v1/users", tags=["users"])

_LAST_CHARACTER = "\U0010ffff"


def _prefix(text: str) -> str:
    if text and not is_identifier(text):
        raise ValueError("no user id begins like this")
    return text


@router.get("")
async def list_users(
    services: Services,
    prefix: Annotated[str, AfterValidator(_prefix), Query(description="Only ids that begin so.")] = "",
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
    cursor: Annotated[str | None, Query(description="`next_cursor` of the page before.", max_length=400)] = None,
) -> UserPage:
    """List users in the order of their ids, a page at a time."""
    query = select(users).order_by(users.c.user_id).limit(limit + 1)
    if prefix:
        # Collation "C" orders by code point, so a prefix is a range of the primary key.
        query = query.where(users.c.user_id >= prefix, users.c.user_id < prefix + _LAST_CHARACTER)
    if cursor is not None:
        query = query.where(users.c.user_id > _decode_cursor(cursor))
    async with services.engine.connect() as connection:
        rows = (await connection.execute(query)).all()
    page = [User.model_validate(row._mapping) for row in rows[:limit]]
    return UserPage(users=page, next_cursor=_encode_cursor(page[-1].user_id) if len(rows) > limit else None)


@router.get("/{user_id}/interactions")
async def list_interactions(
    services: Services,
    user_id: Annotated[UserId, Path()],
    limit: Annotated[int, Query(ge=1, le=1000)] = 50,
) -> InteractionList:
    """List a user's interactions, latest first; none for an unknown user."""
    latest = (
        select(interactions)
        .where(interactions.c.user_id == user_id)
        .order_by(interactions.c.created_at.desc(), interactions.c.id.desc())
        .limit(limit)
        .subquery()
    )
    query = (
        select(
            latest.c.item_id,
            latest.c.event_type,
            latest.c.weight,
            latest.c.created_at,
            items.c.title,
            items.c.genres,
        )
        .join(items, items.c.item_id == latest.c.item_id, isouter=True)
        .order_by(latest.c.created_at.desc(), latest.c.id.desc())
    )
    async with services.engine.connect() as connection:
        rows = (await connection.execute(query)).all()
    return InteractionList(
        interactions=[StoredInteraction.model_validate({**row._mapping, "genres": row.genres or []}) for row in rows]
    )


def _encode_cursor(user_id: str) -> str:
    return base64.urlsafe_b64encode(user_id.encode()).decode()


def _decode_cursor(cursor: str) -> str:
    try:
        user_id = base64.b64decode(cursor.encode("ascii"), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError):
        user_id = ""
    if not is_identifier(user_id):
        raise Problem(422, "invalid-cursor", "The cursor is not one that this API gave.")
    return user_id
