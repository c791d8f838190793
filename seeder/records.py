"""What sources yield."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple, Self


class Interaction(NamedTuple):
    """One row of `interactions`. `created_us` counts microseconds since the Unix epoch."""

    user_id: str
    item_id: str
    event_type: str
    weight: float
    created_us: int


@dataclass(frozen=True, slots=True)
class Interactions:
    """Some rows of `interactions` by column, as they are read and written: a tuple a row would take twice the time."""

    user_ids: Sequence[str]
    item_ids: Sequence[str]
    event_types: Sequence[str]
    weights: Sequence[float]
    created_us: Sequence[int]

    def __len__(self) -> int:
        """The number of rows."""
        return len(self.user_ids)

    @classmethod
    def of(cls, rows: Iterable[Interaction]) -> Self:
        """Turn rows into columns."""
        columns = list(zip(*rows, strict=True)) or [()] * 5
        return cls(*columns)

    @classmethod
    def batches(cls, rows: Iterable[Interaction], size: int) -> Iterator[Self]:
        """Turn a stream of rows into blocks of up to `size`."""
        iterator = iter(rows)
        while batch := list(islice(iterator, size)):
            yield cls.of(batch)


class Item(NamedTuple):
    """One row of `items`."""

    item_id: str
    title: str
    genres: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Where item ids get their meaning: ids of two catalogues must not meet in one database.

    `source` is `synthetic`, `movielens` or `csv`; `name` is the seed, the set's name or the file's name. A person's own
    CSV files are taken to be of one catalogue, whatever their names.
    """

    source: str
    name: str

    def __str__(self) -> str:
        """Return the name as sentences use it."""
        if self.source == "synthetic":
            return f"the synthetic demo data ({self.name})"
        return f"{self.name} ({self.source})"

    def agrees_with(self, other: "Catalogue") -> bool:
        """Tell whether item ids mean the same in both."""
        return self.source == other.source and (self.source == "csv" or self.name == other.name)
