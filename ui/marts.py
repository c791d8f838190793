"""Reads the marts as the analyst, who may read them and nothing else."""

from collections.abc import Sequence
from datetime import date

import pandas as pd
import psycopg
import streamlit as st
from pydantic import ValidationError

from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings

_SECONDS = 60
"""How long an answer is kept: dbt changes the marts once an hour."""


class MartsUnavailable(Exception):
    """The marts cannot be read; the text is a sentence for a person."""


@st.cache_data(ttl=_SECONDS, show_spinner=False)
def read(query: str, parameters: Sequence[object] = ()) -> pd.DataFrame:
    """Return a query's rows, kept for a minute for all visits. Raises MartsUnavailable."""
    try:
        settings = PostgresSettings()
    except (ValidationError, OSError):
        raise MartsUnavailable(
            "The page has no login for the database: it takes the analyst's from POSTGRES_USER and POSTGRES_PASSWORD."
        ) from None
    try:
        with connect(settings, "ui") as connection, connection.cursor() as cursor:
            cursor.execute(query.encode(), parameters)
            assert cursor.description is not None
            return pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description])
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        raise MartsUnavailable(
            "The marts are not built yet. That happens every hour; `./run marts` does it now."
        ) from None
    except psycopg.errors.InsufficientPrivilege:
        raise MartsUnavailable(f"The role {settings.user} may not read the marts.") from None
    except psycopg.OperationalError:
        raise MartsUnavailable("PostgreSQL cannot be reached. The other pages go on without it.") from None


def days() -> tuple[date, date] | None:
    """Return the first and the last day that has anything, or None where nothing has. Raises MartsUnavailable."""
    found = read("SELECT min(report_date) AS first, max(report_date) AS last FROM marts.dm_daily_stats")
    first, last = found.iloc[0]
    return None if first is None else (first, last)
