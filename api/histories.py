"""A user's history as the model wants it: what to rank from, and what not to recommend."""

from dataclasses import dataclass

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from recstream.db.tables import interactions
from recstream.messages.activity import EventType
from recstream.messages.inference import MAX_EXCLUDE


@dataclass(frozen=True, slots=True)
class StoredHistory:
    """`items` oldest first; `dismissed` and `seen_before` (the history) latest first."""

    items: list[str]
    dismissed: list[str]
    seen_before: list[str]


async def read_history(connection: AsyncConnection, user_id: str, limit: int) -> StoredHistory:
    """Return the user's latest `limit` positive interactions and what else is known; empty for an unknown user.

    Looks at the latest `limit` + 500 interactions, whatever their kind. The latest word on an item counts: one that
    was dismissed and liked later is not dismissed.
    """
    latest = (
        select(interactions.c.item_id, interactions.c.event_type)
        .where(interactions.c.user_id == user_id)
        .order_by(interactions.c.created_at.desc(), interactions.c.id.desc())
        .limit(limit + MAX_EXCLUDE)
    )
    items: list[str] = []
    dismissed: dict[str, None] = {}
    seen_before: dict[str, None] = {}
    judged: set[str] = set()
    for item_id, event_type in await connection.execute(latest):
        if event_type == EventType.DISMISS:
            if item_id not in judged:
                dismissed[item_id] = None
        elif len(items) < limit:
            items.append(item_id)
        else:
            seen_before[item_id] = None
        judged.add(item_id)
    items.reverse()
    return StoredHistory(items, list(dismissed), list(seen_before))
