"""Interactions and items from delimited files, whatever their columns are called."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from recstream.messages.activity import EventType
from seeder.delimited import DelimitedReader, Records
from seeder.fields import (
    BadField,
    Remembering,
    TimeUnit,
    event_type_parser,
    parse_item_id,
    parse_user_id,
    parse_weight,
    time_column_parser,
    time_parser,
)
from seeder.lines import LineReader
from seeder.problem import SeedingProblem
from seeder.records import Catalogue, Interaction, Interactions, Item
from seeder.rejects import Rejects
from seeder.sources import Feed

NO_TIME_START_US = 946_684_800_000_000
"""2000-01-01 UTC: where a file without times begins; each line is a second later than the one before."""

_BAD_START = 10_000
"""So many rejected lines before the first good one mean that the file is not what it was said to be."""

_LONGEST_TITLE = 500
_NO_GENRES = {"", "unknown", "(no genres listed)"}


@dataclass(frozen=True, slots=True)
class TableFormat:
    """How a file is laid out. Without `header`, columns are named by their positions, counted from 1."""

    delimiter: str
    header: bool = True
    typed_header: bool = False
    """RecBole's: `user_id:token`."""
    quoted: bool = False
    latin1: bool = False
    """Lines that are not UTF-8 are ISO 8859-1."""
    width: int | None = None
    """Columns, where the format fixes them."""


@dataclass(frozen=True, slots=True)
class InteractionColumns:
    """Which column holds what; `time` None takes the file's order for the order in time."""

    user: str
    item: str
    time: str | None
    weight: str | None = None
    event_type: str | None = None
    fixed_event_type: EventType = EventType.VIEW
    time_unit: TimeUnit = TimeUnit.AUTO
    event_types: Mapping[str, EventType] = field(default_factory=dict)
    """What else the event type's column may say, and what is meant by it."""
    user_prefix: str = ""


@dataclass(frozen=True, slots=True)
class ItemColumns:
    """Which column holds what. Genres stand in one column, or are flags (`1`) in columns of their own."""

    item: str
    title: str
    genres: str | None = None
    genre_separator: str = "|"
    genre_flags: Mapping[str, str] = field(default_factory=dict)
    """Genre by column."""
    year: str | None = None
    """Set behind the title, in brackets."""


class Table:
    """An open file: its header is read, its columns can be looked up, and its rows taken once.

    Raises SeedingProblem where it cannot be read.
    """

    def __init__(self, path: Path, form: TableFormat, rejects: Rejects) -> None:
        self.path = path
        self.reader = LineReader(path)
        self._rejects = rejects
        self._delimited = DelimitedReader(form.delimiter, width=form.width, quoted=form.quoted, latin1=form.latin1)
        self._records = self._delimited.records(self.reader.chunks(), rejects.add)
        self._first = next(self._records, None)
        if self._first is None:
            raise SeedingProblem(f"{path} holds no line that could be read; is it the right file?")
        self._names: list[str] | None = None
        if form.header:
            names = [name.strip() for name in self._first.fields[0]]
            self._names = [name.partition(":")[0] for name in names] if form.typed_header else names
            self._first = self._first.after_first()

    def has(self, column: str) -> bool:
        """Tell whether the header names `column`."""
        return self._names is not None and column in self._names

    def index(self, column: str) -> int:
        """Return where `column` stands, from 0. Raises SeedingProblem with the columns that there are."""
        if self._names is None:
            width = self._delimited.width or 0
            if not column.isdecimal() or not 1 <= int(column) <= width:
                raise SeedingProblem(
                    f"{self.path.name} has no header, so a column is a position from 1 to {width}, not {column!r}."
                )
            return int(column) - 1
        if column not in self._names:
            there = ", ".join(self._names[:20]) + (", ..." if len(self._names) > 20 else "")
            raise SeedingProblem(f"{self.path.name} has no column {column!r}; its columns are: {there}.")
        return self._names.index(column)

    def records(self) -> Iterator[Records]:
        """Yield the rows below the header."""
        if self._first is not None:
            yield self._first
        yield from self._records

    def reject(self, number: int, line: bytes, error: BadField) -> None:
        """Set a row aside."""
        self._rejects.add(number, str(error), line)

    def check_beginning(self) -> None:
        """Raise SeedingProblem where many rows are bad; to be called until the first good one."""
        if self._rejects.count >= _BAD_START:
            reason, _ = self._rejects.reasons.most_common(1)[0]
            raise SeedingProblem(
                f"None of the first {_BAD_START:,} rows of {self.path.name} could be read, most often because of: "
                f"{reason}. Check the delimiter and the columns; the lines are in {self._rejects.path}."
            )


class TableSource:
    """Interactions from one file and, where there is a second, items from that."""

    def __init__(
        self,
        catalogue: Catalogue,
        interactions: tuple[Path, TableFormat, Callable[[Table], InteractionColumns]],
        items: tuple[Path, TableFormat, Callable[[Table], ItemColumns]] | None,
        rejects_dir: Path,
    ) -> None:
        """Raises SeedingProblem where a file does not exist."""
        for path, *_ in filter(None, (interactions, items)):
            if not path.exists():
                raise SeedingProblem(f"{path} does not exist.")
        self.catalogue = catalogue
        self._interactions = interactions
        self._items = items
        self._rejects_dir = rejects_dir

    def items(self) -> Feed[Item] | None:
        """Open the items' file."""
        if self._items is None:
            return None
        path, form, choose = self._items
        with Rejects(self._rejects_dir, path.name).closed_on_error() as rejects:
            table = Table(path, form, rejects)
            rows = _items(table, choose(table))
        return Feed(f"items of {path.name}", rows, table.reader.size, lambda: table.reader.position, rejects)

    def interactions(self) -> Feed[Interactions]:
        """Open the interactions' file."""
        path, form, choose = self._interactions
        with Rejects(self._rejects_dir, path.name).closed_on_error() as rejects:
            table = Table(path, form, rejects)
            rows = _interactions(table, choose(table))
        return Feed(path.name, rows, table.reader.size, lambda: table.reader.position, rejects)


def _interactions(table: Table, columns: InteractionColumns) -> Iterator[Interactions]:
    user_at, item_at = table.index(columns.user), table.index(columns.item)
    time_at = None if columns.time is None else table.index(columns.time)
    weight_at = None if columns.weight is None else table.index(columns.weight)
    type_at = None if columns.event_type is None else table.index(columns.event_type)
    user_of = Remembering(partial(parse_user_id, prefix=columns.user_prefix))
    item_of = Remembering(parse_item_id)
    weight_of = Remembering(parse_weight)
    type_of = Remembering(event_type_parser(columns.event_types))
    time_of = time_parser(columns.time_unit)
    times_of = time_column_parser(columns.time_unit)
    fixed_type = columns.fixed_event_type.value

    def no_time(number: int) -> int:
        return NO_TIME_START_US + number * 1_000_000

    def at_once(records: Records) -> Interactions:
        columns = list(zip(*records.fields, strict=True))
        count = len(records.fields)
        return Interactions(
            list(map(user_of.__getitem__, columns[user_at])),
            list(map(item_of.__getitem__, columns[item_at])),
            [fixed_type] * count if type_at is None else list(map(type_of.__getitem__, columns[type_at])),
            [1.0] * count if weight_at is None else list(map(weight_of.__getitem__, columns[weight_at])),
            [no_time(number) for number in records.numbers] if time_at is None else times_of(columns[time_at]),
        )

    def one(number: int, fields: Sequence[str]) -> Interaction:
        return Interaction(
            user_of[fields[user_at]],
            item_of[fields[item_at]],
            fixed_type if type_at is None else type_of[fields[type_at]],
            1.0 if weight_at is None else weight_of[fields[weight_at]],
            no_time(number) if time_at is None else time_of(fields[time_at]),
        )

    def one_by_one(records: Records) -> Iterator[Interaction]:
        for number, line, fields in zip(records.numbers, records.lines, records.fields, strict=True):
            try:
                yield one(number, fields)
            except BadField as error:
                table.reject(number, line, error)

    def blocks() -> Iterator[Interactions]:
        good = 0
        for records in table.records():
            try:
                block = at_once(records)
            except BadField:
                block = Interactions.of(one_by_one(records))
            good += len(block)
            if not good:
                table.check_beginning()
            elif len(block):
                yield block

    return blocks()


def _items(table: Table, columns: ItemColumns) -> Iterator[Item]:
    item_at, title_at = table.index(columns.item), table.index(columns.title)
    genres_at = None if columns.genres is None else table.index(columns.genres)
    year_at = None if columns.year is None else table.index(columns.year)
    flags = [(table.index(column), genre) for column, genre in columns.genre_flags.items()]

    def title_of(fields: Sequence[str]) -> str:
        title = " ".join(fields[title_at].split())
        if not title:
            raise BadField("no title")
        if year_at is not None and fields[year_at].strip():
            title = f"{title} ({fields[year_at].strip()})"
        if "\0" in title or len(title) > _LONGEST_TITLE:
            raise BadField("bad title")
        return title

    def genres_of(fields: Sequence[str]) -> tuple[str, ...]:
        if genres_at is None:
            return tuple(genre for at, genre in flags if fields[at].strip() == "1")
        genres = (genre.strip() for genre in fields[genres_at].split(columns.genre_separator))
        found = tuple(dict.fromkeys(genre for genre in genres if genre not in _NO_GENRES))
        if any("\0" in genre for genre in found):
            raise BadField("bad genres")
        return found

    def rows() -> Iterator[Item]:
        good = 0
        for records in table.records():
            for number, line, fields in zip(records.numbers, records.lines, records.fields, strict=True):
                try:
                    row = Item(parse_item_id(fields[item_at]), title_of(fields), genres_of(fields))
                except BadField as error:
                    table.reject(number, line, error)
                else:
                    good += 1
                    yield row
            if not good:
                table.check_beginning()

    return rows()
