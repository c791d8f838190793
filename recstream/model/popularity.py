"""Most popular items: the answer for an empty or unknown history, and the bundle that needs no training."""

import itertools
import math
from collections.abc import Collection, Sequence, Set
from typing import Self

import msgspec


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    item_ids: list[str]
    scores: list[float]


class Popularity:
    """Items by falling score, such as their share of all interactions."""

    __slots__ = ("item_ids", "scores")

    def __init__(self, item_ids: Sequence[str], scores: Sequence[float]) -> None:
        """Raises ValueError where lengths differ, an id is empty or repeated, or scores rise or are not finite."""
        if len(item_ids) != len(scores):
            raise ValueError(f"Popularity has {len(item_ids)} items but {len(scores)} scores.")
        if not all(math.isfinite(score) for score in scores):
            raise ValueError("A popularity score is not finite.")
        if any(later > earlier for earlier, later in itertools.pairwise(scores)):
            raise ValueError("Popularity scores must fall.")
        if len(set(item_ids)) != len(item_ids) or "" in item_ids:
            raise ValueError("Popularity lists an item twice, or an empty id.")
        self.item_ids = tuple(item_ids)
        self.scores = tuple(scores)

    def __len__(self) -> int:
        """The number of items listed."""
        return len(self.item_ids)

    def top(self, k: int, exclude: Collection[str] = ()) -> list[tuple[str, float]]:
        """Return the first k items not in `exclude`, with their scores; fewer where the list ends."""
        if k <= 0:
            return []
        excluded = exclude if isinstance(exclude, Set) else frozenset(exclude)
        chosen: list[tuple[str, float]] = []
        for item_id, score in zip(self.item_ids, self.scores, strict=True):
            if item_id not in excluded:
                chosen.append((item_id, score))
                if len(chosen) == k:
                    break
        return chosen

    def to_json(self) -> bytes:
        """Return the document that `from_json` reads."""
        return msgspec.json.encode(_Document(item_ids=list(self.item_ids), scores=list(self.scores)))

    @classmethod
    def from_json(cls, encoded: bytes) -> Self:
        """Raises ValueError with a sentence where the document is malformed."""
        try:
            document = msgspec.json.decode(encoded, type=_Document)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"The popularity list is malformed: {error}.") from error
        return cls(document.item_ids, document.scores)
