"""What travels on `activity.events`."""

import math
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from msgspec import Struct

from recstream.messages.identifiers import is_identifier
from recstream.messages.inference import Identifier


class EventType(StrEnum):
    """What a person did. All but `dismiss` feed histories; `dismiss` keeps an item from being recommended."""

    VIEW = "view"
    LIKE = "like"
    PURCHASE = "purchase"
    RATING = "rating"
    DISMISS = "dismiss"


class InteractionRecorded(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One interaction; `event_id` makes a repeated delivery harmless. `weight` is a rating's value, else 1."""

    event_id: UUID
    user_id: Identifier
    item_id: Identifier
    event_type: EventType
    occurred_at: datetime
    weight: float = 1.0

    def __post_init__(self) -> None:
        """Raise ValueError for ids or a weight that PostgreSQL could not hold: these fields become a row."""
        if not (is_identifier(self.user_id) and is_identifier(self.item_id)):
            raise ValueError("an id is not 1-64 visible characters without '/'")
        if not math.isfinite(self.weight):
            raise ValueError("weight is not a finite number")
        if self.occurred_at.tzinfo is None:
            raise ValueError("occurred_at has no time zone")
