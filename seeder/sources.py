"""What the loader asks of a source."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Generic, Protocol, TypeVar

from seeder.records import Catalogue, Interactions, Item
from seeder.rejects import Rejects

Row = TypeVar("Row")


@dataclass(frozen=True, slots=True)
class Feed(Generic[Row]):
    """Rows, or blocks of them, to take once and in order, and how far they have been read."""

    label: str
    rows: Iterator[Row]
    size: int
    """What `position` counts up to: bytes of a file, or rows."""
    position: Callable[[], int]
    rejects: Rejects | None = None


class Source(Protocol):
    """Something to import."""

    @property
    def catalogue(self) -> Catalogue:
        """Where the item ids get their meaning."""
        ...

    def items(self) -> Feed[Item] | None:
        """Return the items, where the source knows any."""
        ...

    def interactions(self) -> Feed[Interactions]:
        """Return the interactions in the order of arrival. Raises SeedingProblem for a file that is no such table."""
        ...
