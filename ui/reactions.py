"""Likes and dismissals of this visit, kept until the stored history shows them, so that the next request differs."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from recstream.messages.activity import EventType
from ui.api_client import StoredInteraction


@dataclass(frozen=True, slots=True)
class Reaction:
    """What a person said of an item; `occurred_at` has whole milliseconds, as the API is told."""

    item_id: str
    event_type: EventType
    occurred_at: datetime


def not_stored_yet(reactions: Sequence[Reaction], stored: Sequence[StoredInteraction]) -> list[Reaction]:
    """Return the reactions that the writer has not brought to the table yet, in their order."""
    known = {(interaction.item_id, interaction.event_type, interaction.created_at) for interaction in stored}
    return [r for r in reactions if (r.item_id, str(r.event_type), r.occurred_at) not in known]


def as_request_members(reactions: Sequence[Reaction]) -> dict[str, list[str]]:
    """Return `recent_items` and `exclude` for a request; the latest word on an item counts."""
    latest: dict[str, EventType] = {}
    for reaction in reactions:
        latest.pop(reaction.item_id, None)
        latest[reaction.item_id] = reaction.event_type
    members = {
        "recent_items": [item for item, kind in latest.items() if kind is EventType.LIKE],
        "exclude": [item for item, kind in latest.items() if kind is EventType.DISMISS],
    }
    return {name: items for name, items in members.items() if items}
