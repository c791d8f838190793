"""`python -m seeder`: synthetic demo data once, or a person's own, and the first model."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import psycopg
import typer
from rich.console import Console

from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings
from recstream.kafka.settings import KafkaSettings
from recstream.messages.activity import EventType
from recstream.model.settings import CheckpointSettings
from recstream.ops.interruption import Interrupted, Interruption
from recstream.ops.logs import LogSettings, configure_logging
from seeder.custom_csv import CsvOptions, open_csv
from seeder.fields import TimeUnit
from seeder.loading import Mode
from seeder.movielens import open_movielens
from seeder.problem import SeedingProblem
from seeder.run import seed
from seeder.settings import SeederSettings
from seeder.sources import Source
from seeder.synthetic import DEFAULT_UNTIL, SyntheticSettings, SyntheticSource


class SourceName(StrEnum):
    """What `--source` takes."""

    SYNTHETIC = "synthetic"
    MOVIELENS = "movielens"
    CSV = "csv"


_DEFAULT_UNTIL = DEFAULT_UNTIL.replace(tzinfo=None)  # as typer reads a date
_SYNTHETIC = "Synthetic data"
_FILES = "Files"
_CSV = "CSV files"

_OPTIONS_OF: dict[str, tuple[SourceName, ...]] = {
    **dict.fromkeys(("random_seed", "users", "catalogue_size", "until"), (SourceName.SYNTHETIC,)),
    **dict.fromkeys(("path", "items", "rejects"), (SourceName.MOVIELENS, SourceName.CSV)),
    **dict.fromkeys(
        (
            "user_column", "item_column", "time_column", "no_time", "time_unit", "type_column", "event_type",
            "map_type", "weight_column", "items_id_column", "title_column", "genres_column", "genres_separator",
            "delimiter", "no_header",
        ),
        (SourceName.CSV,),
    ),
}  # fmt: skip
"""Options that only some sources heed: a person who gives one to another source is told, not ignored."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    context: typer.Context,
    path: Annotated[
        Path | None, typer.Argument(help="File of interactions; for movielens also the set's own folder.")
    ] = None,
    source: Annotated[SourceName, typer.Option(help="What to fill the database with.")] = SourceName.SYNTHETIC,
    merge: Annotated[
        bool, typer.Option("--merge", help="Add to what is there, whatever it is: the item ids are the same.")
    ] = False,
    replace: Annotated[
        bool, typer.Option("--replace", help="Remove all users, items and interactions first, in one transaction.")
    ] = False,
    random_seed: Annotated[
        int, typer.Option("--seed", min=0, help="The same seed, the same rows.", rich_help_panel=_SYNTHETIC)
    ] = 42,
    users: Annotated[int, typer.Option(min=1, help="How many users.", rich_help_panel=_SYNTHETIC)] = 100,
    catalogue_size: Annotated[int, typer.Option(help="How many items.", rich_help_panel=_SYNTHETIC)] = 300,
    until: Annotated[
        datetime,
        typer.Option(
            formats=["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"], help="UTC; later than every event.", rich_help_panel=_SYNTHETIC
        ),
    ] = _DEFAULT_UNTIL,
    items: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="Titles, where not beside PATH by the set's own name.", rich_help_panel=_FILES
        ),
    ] = None,
    rejects: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Where lines go that cannot be imported. Default: .local/rejects.",
            rich_help_panel=_FILES,
        ),
    ] = None,
    user_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: user_id.", rich_help_panel=_CSV)
    ] = None,
    item_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="Default: item_id.", rich_help_panel=_CSV)
    ] = None,
    time_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Numbers since 1970, or ISO 8601. Default: timestamp.", rich_help_panel=_CSV),
    ] = None,
    no_time: Annotated[
        bool,
        typer.Option("--no-time", help="There is none: the file's order is the order in time.", rich_help_panel=_CSV),
    ] = False,
    time_unit: Annotated[
        TimeUnit, typer.Option(help="What numbers count; auto goes by their size.", rich_help_panel=_CSV)
    ] = TimeUnit.AUTO,
    type_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Column of view, like, purchase, rating or dismiss.", rich_help_panel=_CSV),
    ] = None,
    event_type: Annotated[
        EventType | None,
        typer.Option(help="Of all rows. Default: view, or rating with --weight-column.", rich_help_panel=_CSV),
    ] = None,
    map_type: Annotated[
        list[str] | None,
        typer.Option(metavar="TEXT=TYPE", help="What else the type's column says; repeat it.", rich_help_panel=_CSV),
    ] = None,
    weight_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Such as a rating's value. Default: 1 for all.", rich_help_panel=_CSV),
    ] = None,
    items_id_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="In --items. Default: item_id.", rich_help_panel=_CSV)
    ] = None,
    title_column: Annotated[
        str | None, typer.Option(metavar="NAME", help="In --items. Default: title.", rich_help_panel=_CSV)
    ] = None,
    genres_column: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="In --items. Default: genres, if there is one.", rich_help_panel=_CSV),
    ] = None,
    genres_separator: Annotated[
        str, typer.Option(metavar="TEXT", help="Between two genres.", rich_help_panel=_CSV)
    ] = "|",
    delimiter: Annotated[
        str | None,
        typer.Option(
            metavar="TEXT",
            help="Or comma, tab, semicolon, pipe, space. Default: comma; tab for .tsv.",
            rich_help_panel=_CSV,
        ),
    ] = None,
    no_header: Annotated[
        bool, typer.Option("--no-header", help="Columns are named by position, from 1.", rich_help_panel=_CSV)
    ] = False,
) -> None:
    """Fill the database with interactions, then publish what is popular as the first model.

    Without arguments: synthetic demo data, and only if there are no interactions yet.
    """
    console = Console()
    interruption = Interruption("Interrupted. Nothing was imported.")
    with interruption.raised(), _failures_as_sentences():
        configure_logging("seeder", LogSettings.load())
        settings = SeederSettings.load()
        _check_options(context, source, merge=merge, replace=replace)
        opened: Source
        if source is SourceName.SYNTHETIC:
            try:
                opened = SyntheticSource(
                    SyntheticSettings(random_seed, users, catalogue_size, until.replace(tzinfo=UTC))
                )
            except ValueError as error:
                raise SeedingProblem(f"The synthetic data cannot be made: {error}.") from error
        elif path is None:
            raise SeedingProblem(f"--source {source.value} needs a PATH.")
        elif source is SourceName.MOVIELENS:
            opened = open_movielens(path, items, rejects or settings.rejects_dir)
        else:
            options = CsvOptions(
                delimiter=delimiter,
                header=not no_header,
                user_column=user_column,
                item_column=item_column,
                time_column=time_column,
                time=not no_time,
                time_unit=time_unit,
                type_column=type_column,
                event_type=event_type,
                event_types=_event_types(map_type or []),
                weight_column=weight_column,
                items=items,
                items_id_column=items_id_column,
                title_column=title_column,
                genres_column=genres_column,
                genres_separator=genres_separator,
            )
            opened = open_csv(path, options, rejects or settings.rejects_dir)
        mode = Mode.REPLACE if replace else Mode.MERGE if merge else Mode.REFUSE
        with _connection(PostgresSettings.load()) as connection:
            seed(
                connection,
                KafkaSettings.load(),
                CheckpointSettings.load().dir,
                opened,
                mode,
                only_if_empty=source is SourceName.SYNTHETIC and mode is Mode.REFUSE,
                console=console,
                interruption=interruption,
            )


def _check_options(context: typer.Context, source: SourceName, *, merge: bool, replace: bool) -> None:
    if merge and replace:
        raise SeedingProblem("Give --merge or --replace, not both.")
    for name, sources in _OPTIONS_OF.items():
        origin = context.get_parameter_source(name)
        given = origin is not None and origin.name == "COMMANDLINE"
        if given and source not in sources:
            option = next(parameter.opts[0] for parameter in context.command.params if parameter.name == name)
            what = "PATH" if name == "path" else option
            raise SeedingProblem(f"{what} goes with --source {' or '.join(sources)}, not with {source.value}.")


def _event_types(mappings: list[str]) -> dict[str, EventType]:
    found: dict[str, EventType] = {}
    for mapping in mappings:
        text, equals, name = mapping.rpartition("=")
        try:
            if not equals:
                raise ValueError
            found[text] = EventType(name.strip().lower())
        except ValueError:
            raise SeedingProblem(
                f"--map-type takes TEXT=TYPE with a TYPE of {', '.join(EventType)}, such as transaction=purchase."
            ) from None
    return found


@contextmanager
def _connection(settings: PostgresSettings) -> Iterator[psycopg.Connection]:
    try:
        connection = connect(settings, "seeder")
    except psycopg.OperationalError as error:
        raise SeedingProblem(
            f"PostgreSQL at {settings.host}:{settings.port} cannot be reached ({' '.join(str(error).split())}). "
            "./run up starts it."
        ) from error
    with connection:
        yield connection


@contextmanager
def _failures_as_sentences() -> Iterator[None]:
    try:
        yield
    except Interrupted as interrupted:
        _end(interrupted.sentence, interrupted.exit_code)
    except SeedingProblem as problem:
        _end(str(problem), 1)
    except psycopg.errors.UndefinedTable:
        _end("The database lacks tables; `python -m admin migrate` makes them (./run up does so by itself).", 1)
    except psycopg.Error as error:
        _end(f"PostgreSQL refused: {' '.join(str(error).split())}", 1)
    except OSError as error:
        _end(f"{error.filename or 'A file'} could not be read or written: {error.strerror or error}.", 1)


def _end(sentence: str, exit_code: int) -> None:
    print(sentence, file=sys.stderr)
    raise typer.Exit(exit_code)


if __name__ == "__main__":
    app()
