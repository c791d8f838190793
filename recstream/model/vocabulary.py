"""Item ids as the numbers that the network knows them by."""

from collections.abc import Iterable, Sequence
from itertools import repeat
from typing import Self

import msgspec
import numpy as np
import numpy.typing as npt

PADDING = 0
"""The code of no item: what batches are padded with, and what an unknown id becomes."""


class _Document(msgspec.Struct, forbid_unknown_fields=True):
    item_ids: list[str]


class Vocabulary:
    """Codes 1 to n for n item ids, in the order given; code 0 is padding and unknown."""

    __slots__ = ("_codes", "item_ids")

    def __init__(self, item_ids: Sequence[str]) -> None:
        """Raises ValueError where an id is empty or appears twice."""
        self.item_ids = tuple(item_ids)
        self._codes = {item_id: code for code, item_id in enumerate(self.item_ids, start=1)}
        if len(self._codes) != len(self.item_ids):
            raise ValueError("The vocabulary lists an item twice.")
        if "" in self._codes:
            raise ValueError("The vocabulary lists an empty item id.")

    def __len__(self) -> int:
        """The number of items, padding not counted."""
        return len(self.item_ids)

    def encode(self, ids: Iterable[str]) -> npt.NDArray[np.int32]:
        """Return each id's code, 0 where the id is unknown."""
        return np.fromiter(map(self._codes.get, ids, repeat(PADDING)), dtype=np.int32)

    def decode(self, codes: npt.ArrayLike) -> list[str]:
        """Return the ids of codes 1 to n. Raises ValueError for any other code, padding among them."""
        indices = np.asarray(codes, dtype=np.int64) - 1
        if indices.size and (indices.min() < 0 or indices.max() >= len(self.item_ids)):
            raise ValueError("A code is not in the vocabulary.")
        return [self.item_ids[index] for index in indices.tolist()]

    def to_json(self) -> bytes:
        """Return the document that `from_json` reads."""
        return msgspec.json.encode(_Document(item_ids=list(self.item_ids)))

    @classmethod
    def from_json(cls, encoded: bytes) -> Self:
        """Raises ValueError with a sentence where the document is malformed."""
        try:
            document = msgspec.json.decode(encoded, type=_Document)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"The vocabulary is malformed: {error}.") from error
        return cls(document.item_ids)
