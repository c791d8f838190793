"""The marts as tables: what dbt made of the services' data, read as the role `analyst`."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, datetime
from enum import Enum

import pandas as pd
import psycopg
from pydantic import ValidationError

from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings

_TIMEOUT_MS = 10_000
MOST_ITEMS = 200
_RECENT_DAYS = 28
# Days with anything: data that end a year ago are worth seeing too.
_EXTENT = """
    SELECT min(report_date), min(report_date) FILTER (WHERE place <= %(recent_days)s), max(report_date),
           max(computed_at)
    FROM (SELECT report_date, computed_at, row_number() OVER (ORDER BY report_date DESC) AS place
          FROM marts.dm_daily_stats) AS days"""


class MartsError(Exception):
    """The marts cannot be read; the text is a sentence to show, and says what helps."""


class Mart(Enum):
    """What can be read over a range of days; the value is its query."""

    DAYS = """
        SELECT report_date, dau, interactions, total_requests, total_predictions, failed, expired, cancelled, pending,
               fallback_predictions, fallback_share, p50_latency_ms, p95_latency_ms
        FROM marts.dm_daily_stats
        WHERE report_date BETWEEN %(start)s AND %(end)s
        ORDER BY report_date"""
    MODELS = """
        SELECT report_date, model_version, predictions, fallback_predictions, fallback_share, p50_queued_ms,
               p95_queued_ms, p50_batch_wait_ms, p95_batch_wait_ms, p50_inference_ms, p95_inference_ms, p50_total_ms,
               p95_total_ms, mean_score, final_items, taken_items, ctr
        FROM marts.dm_model_daily
        WHERE report_date BETWEEN %(start)s AND %(end)s
        ORDER BY report_date, model_version"""
    RANKS = """
        SELECT rank, model_version, sum(recommended_items)::bigint AS recommended_items,
               sum(final_items)::bigint AS final_items, sum(taken_items)::bigint AS taken_items,
               sum(taken_items)::float / nullif(sum(final_items), 0) AS ctr
        FROM marts.dm_click_through_daily
        WHERE report_date BETWEEN %(start)s AND %(end)s
        GROUP BY rank, model_version
        ORDER BY model_version, rank"""
    ITEMS = """
        SELECT item_id, title, array_to_string(genres, ', ') AS genres, sum(interactions)::bigint AS interactions,
               sum(views)::bigint AS views, sum(likes)::bigint AS likes, sum(purchases)::bigint AS purchases,
               sum(ratings)::bigint AS ratings, sum(dismissals)::bigint AS dismissals,
               sum(recommended)::bigint AS recommended,
               sum(mean_rank * recommended) / nullif(sum(recommended), 0) AS mean_rank,
               sum(final_items)::bigint AS final_items, sum(taken_items)::bigint AS taken_items,
               sum(taken_items)::float / nullif(sum(final_items), 0) AS ctr
        FROM marts.dm_item_daily LEFT JOIN marts.dm_items USING (item_id)
        WHERE report_date BETWEEN %(start)s AND %(end)s
        GROUP BY item_id, title, genres
        ORDER BY sum(interactions) + sum(recommended) DESC, item_id
        LIMIT %(most_items)s"""
    SESSIONS = """
        SELECT report_date, sessions, users, mean_length_seconds, p50_length_seconds, p95_length_seconds, mean_actions
        FROM marts.dm_session_daily
        WHERE report_date BETWEEN %(start)s AND %(end)s
        ORDER BY report_date"""
    RETENTION = """
        SELECT cohort_week, week_number, cohort_users, active_users, retention, week_complete
        FROM marts.dm_cohort_retention
        WHERE cohort_week BETWEEN date_trunc('week', %(start)s::date)::date AND %(end)s
        ORDER BY cohort_week, week_number"""


@dataclass(frozen=True, slots=True)
class Extent:
    """The days that the marts cover, from which on the latest ones lie, and when they were last calculated."""

    first: date
    recent: date
    last: date
    computed_at: datetime


def marts_settings() -> PostgresSettings:
    """Return how the marts are reached, from the environment. Raises MartsError where no password is set."""
    try:
        return PostgresSettings()
    except (ValidationError, OSError) as error:
        raise MartsError(
            "Analytics reads PostgreSQL as the role analyst, and has no password for it. ./run up sets one; by hand: "
            "POSTGRES_USER=analyst and POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE."
        ) from error


def read_extent(settings: PostgresSettings) -> Extent | None:
    """Return which days there are; None while the marts are empty. Raises MartsError."""
    first, recent, last, computed_at = _read(settings, _EXTENT, {"recent_days": _RECENT_DAYS}).iloc[0]
    return None if first is None else Extent(first, recent, last, computed_at)


def read_mart(settings: PostgresSettings, mart: Mart, start: date, end: date) -> pd.DataFrame:
    """Return a mart over the days from `start` to `end`, both included. Raises MartsError."""
    return _read(settings, mart.value, {"start": start, "end": end, "most_items": MOST_ITEMS})


def _read(settings: PostgresSettings, query: str, values: Mapping[str, date | int]) -> pd.DataFrame:
    try:
        with connect(settings, "ui") as connection:
            connection.read_only = True
            connection.execute(f"SET statement_timeout = {_TIMEOUT_MS}".encode())
            cursor = connection.execute(query.encode(), values)
            columns = [column.name for column in cursor.description or ()]
            rows = cursor.fetchall()
    except (psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn, psycopg.errors.InvalidSchemaName) as error:
        raise MartsError(
            "The marts are not there, or are an earlier release's. ./run marts makes them now; ./run up does every "
            "hour."
        ) from error
    except psycopg.errors.InsufficientPrivilege as error:
        raise MartsError(f"The role {settings.user} may not read the marts; the role analyst may.") from error
    except psycopg.errors.QueryCanceled as error:
        raise MartsError("PostgreSQL took too long over it. A shorter range of days may help.") from error
    except psycopg.OperationalError as error:
        raise MartsError(
            f"PostgreSQL at {settings.host}:{settings.port} does not let {settings.user} read, or is away. The marts "
            "are shown again once it answers."
        ) from error
    except psycopg.Error as error:
        raise MartsError(f"PostgreSQL refused to read the marts: {error}") from error
    return pd.DataFrame(rows, columns=columns)
