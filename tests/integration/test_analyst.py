"""The role `analyst`: it reads the marts, by their names alone, and nothing else."""

from collections.abc import Iterator

import psycopg
import pytest
from pydantic import SecretStr

from recstream.db.engine import connect, make_engine
from recstream.db.migrations import upgrade
from recstream.db.roles import ANALYST, set_analyst_password
from recstream.db.settings import PostgresSettings

pytestmark = pytest.mark.integration

PASSWORD = "of-the-analyst"


@pytest.fixture
def marts(database: PostgresSettings) -> PostgresSettings:
    """Return a database with one mart, made as dbt makes it, and an analyst who has a password."""
    with connect(database, "tests") as connection:
        # Databases of tests are copies, and a copy has none of the original's settings; a first migration sets it.
        connection.execute("UPDATE alembic_version SET version_num = '0004'")
        connection.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA marts REVOKE SELECT ON TABLES FROM analyst")
        connection.execute("DROP SCHEMA marts")
    engine = make_engine(database, "tests")
    upgrade(engine)
    engine.dispose()
    with connect(database, "tests") as connection:
        connection.execute("CREATE TABLE marts.dm_daily_stats AS SELECT DATE '2026-11-25' AS report_date, 3 AS dau")
        set_analyst_password(connection, PASSWORD)
    return database


@pytest.fixture
def analyst(marts: PostgresSettings) -> Iterator[psycopg.Connection]:
    with connect(marts.model_copy(update={"user": ANALYST, "password": SecretStr(PASSWORD)}), "tests") as connection:
        connection.autocommit = True
        yield connection


def test_the_owner_reads_marts_by_their_names_alone(marts: PostgresSettings) -> None:
    with connect(marts, "tests") as connection:
        assert connection.execute("SELECT dau FROM dm_daily_stats ORDER BY report_date DESC").fetchall() == [(3,)]


def test_the_analyst_reads_marts_made_after_the_grant(analyst: psycopg.Connection) -> None:
    assert analyst.execute("SELECT dau FROM dm_daily_stats").fetchall() == [(3,)]


@pytest.mark.parametrize(
    "statement",
    [
        "SELECT * FROM predictions",
        "SELECT * FROM interactions",
        "SELECT * FROM users",
        "SELECT * FROM outbox",
        "SELECT * FROM idempotency_keys",
        "SELECT * FROM ml_models",
        "INSERT INTO dm_daily_stats VALUES (DATE '2026-11-26', 1)",
        "UPDATE dm_daily_stats SET dau = 0",
        "DELETE FROM dm_daily_stats",
        "DROP TABLE dm_daily_stats",
        "CREATE TABLE marts.mine (x int)",
        "CREATE TABLE public.mine (x int)",
        "CREATE SCHEMA mine",
        "CREATE ROLE mine",
        "SET ROLE sasrec",
    ],
)
def test_the_analyst_may_do_nothing_else(analyst: psycopg.Connection, statement: str) -> None:
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        analyst.execute(statement.encode())


def test_another_password_is_refused(marts: PostgresSettings) -> None:
    wrong = marts.model_copy(update={"user": ANALYST, "password": SecretStr("wrong")})
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"), connect(wrong, "tests"):
        pass
