"""Item ids as a person types them: `10, 20, 30`."""

import re
from dataclasses import dataclass

from recstream.messages.identifiers import is_identifier
from recstream.messages.inference import MAX_HISTORY

_SEPARATORS = re.compile(r"[\s,;]+")
_SHOWN = 5


@dataclass(frozen=True, slots=True)
class TypedIds:
    """The ids in the order typed; `problem` is a sentence where they cannot be used, else None."""

    item_ids: list[str]
    problem: str | None


def parse_item_ids(text: str) -> TypedIds:
    """Read ids separated by commas, semicolons or white space."""
    parts = [part for part in _SEPARATORS.split(text) if part]
    if not parts:
        return TypedIds([], "Enter at least one item id, such as 10, 20, 30.")
    wrong = list(dict.fromkeys(part for part in parts if not is_identifier(part)))
    if wrong:
        shown = ", ".join(f"“{part[:20]}…”" if len(part) > 20 else f"“{part}”" for part in wrong[:_SHOWN])
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        verb = "is not an item id" if len(wrong) == 1 else "are not item ids"
        return TypedIds([], f"{shown}{more} {verb}: an id is 1 to 64 visible characters without a slash.")
    if len(parts) > MAX_HISTORY:
        return TypedIds([], f"These are {len(parts):,} ids; at most {MAX_HISTORY:,} can be used.")
    return TypedIds(parts, None)
