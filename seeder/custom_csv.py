"""A person's own delimited files, described by options."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from recstream.messages.activity import EventType
from seeder.fields import TimeUnit
from seeder.problem import SeedingProblem
from seeder.records import Catalogue
from seeder.tabular import InteractionColumns, ItemColumns, Table, TableFormat, TableSource

DELIMITERS = {"comma": ",", "tab": "\t", "\\t": "\t", "semicolon": ";", "pipe": "|", "space": " "}


@dataclass(frozen=True, slots=True)
class CsvOptions:
    """The options of `--source csv`; None stands for "not given"."""

    delimiter: str | None = None
    header: bool = True
    user_column: str | None = None
    item_column: str | None = None
    time_column: str | None = None
    time: bool = True
    time_unit: TimeUnit = TimeUnit.AUTO
    type_column: str | None = None
    event_type: EventType | None = None
    event_types: Mapping[str, EventType] = field(default_factory=dict)
    weight_column: str | None = None
    items: Path | None = None
    items_id_column: str | None = None
    title_column: str | None = None
    genres_column: str | None = None
    genres_separator: str = "|"


def open_csv(path: Path, options: CsvOptions, rejects_dir: Path) -> TableSource:
    """Return the source. Raises SeedingProblem for options that contradict one another."""
    if path.is_dir():
        raise SeedingProblem(f"{path} is a folder; --source csv takes one file.")
    if options.type_column is not None and options.event_type is not None:
        raise SeedingProblem("Give --type-column or --event-type, not both.")
    if options.time_column is not None and not options.time:
        raise SeedingProblem("Give --time-column or --no-time, not both.")

    def defaults(header_name: str, position: str) -> str:
        return header_name if options.header else position

    def interaction_columns(table: Table) -> InteractionColumns:
        time = options.time_column or defaults("timestamp", "3")
        if options.header and options.time and options.time_column is None and not table.has(time):
            raise SeedingProblem(
                f"{table.path.name} has no column 'timestamp': name the time's with --time-column, or give --no-time "
                "where the file's order is the order in time."
            )
        kind = EventType.VIEW if options.weight_column is None else EventType.RATING
        return InteractionColumns(
            user=options.user_column or defaults("user_id", "1"),
            item=options.item_column or defaults("item_id", "2"),
            time=time if options.time else None,
            weight=options.weight_column,
            event_type=options.type_column,
            fixed_event_type=options.event_type or kind,
            time_unit=options.time_unit,
            event_types=options.event_types,
        )

    def item_columns(table: Table) -> ItemColumns:
        genres = options.genres_column
        if genres is None and table.has("genres"):
            genres = "genres"
        return ItemColumns(
            item=options.items_id_column or defaults("item_id", "1"),
            title=options.title_column or defaults("title", "2"),
            genres=genres,
            genre_separator=options.genres_separator,
        )

    items = options.items
    return TableSource(
        Catalogue("csv", path.name),
        (path, _form(path, options), interaction_columns),
        None if items is None else (items, _form(items, options), item_columns),
        rejects_dir,
    )


def _form(path: Path, options: CsvOptions) -> TableFormat:
    named = options.delimiter if options.delimiter is not None else ("tab" if path.suffix == ".tsv" else "comma")
    delimiter = DELIMITERS.get(named, named)
    if not delimiter or any(character in '"\r\n\0' for character in delimiter):
        raise SeedingProblem(f"--delimiter takes one or more characters, or one of: {', '.join(DELIMITERS)}.")
    return TableFormat(delimiter, header=options.header, quoted=len(delimiter) == 1)
