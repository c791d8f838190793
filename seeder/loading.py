"""One source into the database, in one transaction."""

import time
from dataclasses import dataclass, field
from enum import Enum

import psycopg
from psycopg import sql
from psycopg.rows import scalar_row
from rich.console import Console

from recstream.db.advisory_locks import SEEDING
from recstream.ops.interruption import Interruption
from seeder.indexes import create_indexes, drop_indexes, indexes_of
from seeder.problem import SeedingProblem
from seeder.progress import Report, progress, say
from seeder.records import Catalogue
from seeder.rejects import Rejects
from seeder.sources import Source
from seeder.staging import stage_interactions, stage_items

_ROWS_A_SLICE = 50_000
_ROWS_WORTH_A_LOCK = 50_000
_LOCK_TIMEOUT = "3s"


class Mode(Enum):
    """What to do about a database that holds interactions of another catalogue."""

    REFUSE = "refuse"
    MERGE = "merge"
    REPLACE = "replace"


@dataclass(slots=True)
class Outcome:
    """What an import did."""

    catalogue: Catalogue
    read: int = 0
    """Good rows of the source."""
    new: int = 0
    removed: int = 0
    """Interactions that were there before, with --replace."""
    items: int = 0
    users: int = 0
    """Of the source's."""
    seconds: float = 0.0
    rejects: list[Rejects] = field(default_factory=list)

    @property
    def rejected(self) -> int:
        """Lines set aside, of all files."""
        return sum(rejects.count for rejects in self.rejects)


def holds_interactions(connection: psycopg.Connection) -> bool:
    """Tell whether there is any interaction. Ends its transaction."""
    with connection.transaction():
        return bool(_scalar(connection, "SELECT EXISTS (SELECT FROM interactions)"))


def take_turn(connection: psycopg.Connection, console: Console) -> None:
    """Wait until no other seeder is at work, and keep others waiting until `connection` is closed."""
    if not _scalar(connection, "SELECT pg_try_advisory_lock(%s)", SEEDING):
        say(console, "Waiting for another seeder to end.")
        connection.execute("SELECT pg_advisory_lock(%s)", (SEEDING,))
    connection.commit()


def load(
    connection: psycopg.Connection,
    source: Source,
    mode: Mode,
    console: Console,
    interruption: Interruption,
) -> Outcome:
    """Import `source`: everything, or on any exception nothing. Re-running adds only what is new.

    Interactions get their ids in the source's order, so that it decides between equal times. Raises SeedingProblem
    where the database holds another catalogue (see `Mode`), and what the source and psycopg raise.
    """
    outcome = Outcome(source.catalogue)
    started = time.monotonic()
    # Takes effect only before the session's first temporary table.
    connection.execute("SET temp_buffers = '64MB'")
    connection.execute("SET work_mem = '64MB'")
    connection.commit()
    try:
        _check(connection, source.catalogue, mode)
        _stage(connection, source, outcome, console)
        with progress(console, "Sorting", 0):
            _sort(connection)
        _write(connection, outcome, mode, console)
        connection.execute(
            """
            INSERT INTO data_sources (source, name, interactions, imported_at) VALUES (%s, %s, %s, now())
            ON CONFLICT (source, name) DO UPDATE SET interactions = EXCLUDED.interactions, imported_at = now()
            """,
            (source.catalogue.source, source.catalogue.name, outcome.read),
        )
    except BaseException:
        for rejects in outcome.rejects:
            rejects.close()
        connection.rollback()
        raise
    with interruption.deferred():
        connection.commit()
        interruption.sentence = "Interrupted. The interactions stay; `./run seed` does the rest."
    for rejects in outcome.rejects:
        rejects.finish()
    outcome.seconds = time.monotonic() - started
    _refresh_statistics(connection, outcome)
    return outcome


def _check(connection: psycopg.Connection, catalogue: Catalogue, mode: Mode) -> None:
    """Raise SeedingProblem where item ids would mean two things."""
    if not _scalar(connection, "SELECT EXISTS (SELECT FROM interactions)"):
        connection.execute("DELETE FROM data_sources")
        return
    if mode is not Mode.REFUSE:
        return
    rows = connection.execute("SELECT source, name FROM data_sources ORDER BY imported_at").fetchall()
    there = [Catalogue(source, name) for source, name in rows]
    strangers = [other for other in there if not other.agrees_with(catalogue)]
    if strangers:
        what = " and ".join(str(other) for other in strangers)
    elif not there and catalogue.source != "csv":
        what = "interactions that came over HTTP"
    else:
        return
    raise SeedingProblem(
        f"The database holds {what}, and the same item ids mean other things in {catalogue}. Add --replace to remove "
        "all users, items and interactions first, or --merge where the ids do agree."
    )


def _stage(connection: psycopg.Connection, source: Source, outcome: Outcome, console: Console) -> None:
    items = source.items()
    if items is not None:
        if items.rejects is not None:
            outcome.rejects.append(items.rejects)
        with progress(console, f"Reading {items.label}", items.size) as report:
            outcome.items = stage_items(connection, items, report)
    interactions = source.interactions()
    if interactions.rejects is not None:
        outcome.rejects.append(interactions.rejects)
    with progress(console, f"Reading {interactions.label}", interactions.size) as report:
        outcome.read = stage_interactions(connection, interactions, report)


def _sort(connection: psycopg.Connection) -> None:
    """Put the rows in the order of users and times: `place` counts from 1.

    Inserted so, a user's rows come to lie together, in the table and in its index, which makes both the import and the
    reading of histories faster. The ids, taken before, go on telling the order of arrival. The second, third... of
    rows with the same content get an event id of their own, made of the first's and a number.
    """
    connection.execute(
        """
        CREATE TEMPORARY TABLE sorted_interactions ON COMMIT DROP AS
        SELECT
            id, user_id, item_id, event_type, weight, created_at,
            row_number() OVER (ORDER BY user_id, created_at, event_id, id) AS place,
            CASE row_number() OVER (PARTITION BY user_id, created_at, event_id ORDER BY id)
                WHEN 1 THEN event_id
                ELSE overlay(
                    event_id::text PLACING left(md5(event_id::text || ':' || row_number()
                        OVER (PARTITION BY user_id, created_at, event_id ORDER BY id)), 12) FROM 25
                )::uuid
            END AS event_id
        FROM staged_interactions
        """
    )
    connection.execute("DROP TABLE staged_interactions")
    connection.execute("CREATE INDEX ON sorted_interactions USING brin (place)")
    connection.execute("ANALYZE sorted_interactions")


def _write(connection: psycopg.Connection, outcome: Outcome, mode: Mode, console: Console) -> None:
    """Put the sorted rows into their tables: interactions, then users, as db_writer does, so that none deadlocks."""
    replacing = mode is Mode.REPLACE
    if _has_interactions_alone(connection, outcome, replacing=replacing):
        if replacing:
            outcome.removed = _scalar(connection, "SELECT count(*) FROM interactions")
        connection.execute("TRUNCATE interactions")
        indexes = indexes_of(connection, "interactions")
        drop_indexes(connection, indexes)
        with progress(console, "Writing interactions", outcome.read) as report:
            _insert_interactions(connection, outcome, report, sql.SQL(""))
        with progress(console, "Indexing interactions", len(indexes)) as report:
            create_indexes(connection, indexes, report)
    else:
        if replacing:
            # Not TRUNCATE: others go on reading the old rows until the new ones are committed.
            outcome.removed = connection.execute("DELETE FROM interactions").rowcount
        with progress(console, "Writing interactions", outcome.read) as report:
            _insert_interactions(connection, outcome, report, sql.SQL("ON CONFLICT (event_id) DO NOTHING"))
    if replacing:
        connection.execute("DELETE FROM users")
        connection.execute("DELETE FROM items")
        connection.execute("DELETE FROM data_sources")
    outcome.users = connection.execute(
        """
        INSERT INTO users AS known (user_id, first_seen_at, last_seen_at)
        SELECT user_id, min(created_at), max(created_at) FROM sorted_interactions GROUP BY user_id ORDER BY user_id
        ON CONFLICT (user_id) DO UPDATE
        SET first_seen_at = least(known.first_seen_at, EXCLUDED.first_seen_at),
            last_seen_at = greatest(known.last_seen_at, EXCLUDED.last_seen_at)
        """
    ).rowcount
    if outcome.items:
        _insert_items(connection)


def _has_interactions_alone(connection: psycopg.Connection, outcome: Outcome, *, replacing: bool) -> bool:
    """Tell whether the table is locked and none of its rows will stay, so that its indexes may be built at the end.

    Keeping them up row by row takes five times as long. But readers wait meanwhile, a few seconds a million rows; for
    fewer rows, or while someone else uses the table, that is not worth it.
    """
    empty = "SELECT NOT EXISTS (SELECT FROM interactions)"
    if outcome.read < _ROWS_WORTH_A_LOCK or not (replacing or _scalar(connection, empty)):
        return False
    try:
        with connection.transaction():
            # While this waits, everybody who comes after it does, too.
            connection.execute(sql.SQL("SET LOCAL lock_timeout = {}").format(sql.Literal(_LOCK_TIMEOUT)))
            connection.execute("LOCK TABLE interactions IN ACCESS EXCLUSIVE MODE")
            connection.execute("SET LOCAL lock_timeout = 0")
    except psycopg.errors.LockNotAvailable:
        return False
    return replacing or bool(_scalar(connection, empty))


def _insert_items(connection: psycopg.Connection) -> None:
    # The last line about an item counts.
    connection.execute(
        """
        INSERT INTO items AS known (item_id, title, genres)
        SELECT DISTINCT ON (item_id) item_id, title, genres FROM staged_items ORDER BY item_id, position DESC
        ON CONFLICT (item_id) DO UPDATE SET title = EXCLUDED.title, genres = EXCLUDED.genres, updated_at = now()
        WHERE (known.title, known.genres) IS DISTINCT FROM (EXCLUDED.title, EXCLUDED.genres)
        """
    )


def _insert_interactions(
    connection: psycopg.Connection, outcome: Outcome, report: Report, on_conflict: sql.SQL
) -> None:
    statement = sql.SQL(
        """
        INSERT INTO interactions (id, event_id, user_id, item_id, event_type, weight, created_at)
        OVERRIDING SYSTEM VALUE
        SELECT id, event_id, user_id, item_id, event_type, weight, created_at FROM sorted_interactions
        WHERE place > %s AND place <= %s
        ORDER BY place {}
        """
    ).format(on_conflict)
    for start in range(0, outcome.read, _ROWS_A_SLICE):
        outcome.new += connection.execute(statement, (start, start + _ROWS_A_SLICE)).rowcount
        report(min(start + _ROWS_A_SLICE, outcome.read), outcome.new)


def _refresh_statistics(connection: psycopg.Connection, outcome: Outcome) -> None:
    """Let the planner know the tables' new sizes at once; after a removal, free the space as well."""
    connection.autocommit = True
    connection.execute(f"{'VACUUM (ANALYZE)' if outcome.removed else 'ANALYZE'} interactions, users, items")
    connection.autocommit = False


def _scalar(connection: psycopg.Connection, query: str, *parameters: object) -> int:
    with connection.cursor(row_factory=scalar_row) as cursor:
        value: int | None = cursor.execute(query, parameters).fetchone()
    assert value is not None
    return value
