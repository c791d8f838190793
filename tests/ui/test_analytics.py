"""Analytics on marts made by hand: what is read, what is drawn, and what is said where nothing can be read."""

import csv
import io
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from launcher.ports import free_ports
from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings
from ui.marts import Extent, Mart, MartsError, read_extent, read_mart

pytestmark = pytest.mark.integration

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)
DAYS = (date(2026, 1, 1), date(2026, 1, 31))
_MARTS = """
    DROP SCHEMA IF EXISTS marts CASCADE;
    CREATE SCHEMA marts;
    CREATE TABLE marts.dm_daily_stats (
        report_date date, dau bigint, interactions bigint, total_requests bigint, total_predictions bigint,
        failed bigint, expired bigint, cancelled bigint, pending bigint, fallback_predictions bigint,
        fallback_share float, p50_latency_ms float, p95_latency_ms float, computed_at timestamptz);
    CREATE TABLE marts.dm_model_daily (
        report_date date, model_version text, predictions bigint, fallback_predictions bigint, fallback_share float,
        p50_queued_ms float, p95_queued_ms float, p50_batch_wait_ms float, p95_batch_wait_ms float,
        p50_inference_ms float, p95_inference_ms float, p50_total_ms float, p95_total_ms float, mean_score float,
        final_items bigint, taken_items bigint, ctr float);
    CREATE TABLE marts.dm_click_through_daily (
        report_date date, model_version text, rank int, recommended_items bigint, final_items bigint,
        taken_items bigint);
    CREATE TABLE marts.dm_item_daily (
        report_date date, item_id text, interactions bigint, views bigint, likes bigint, purchases bigint,
        ratings bigint, dismissals bigint, recommended bigint, mean_rank float, final_items bigint,
        taken_items bigint);
    CREATE TABLE marts.dm_items (item_id text, title text, genres text[]);
    CREATE TABLE marts.dm_session_daily (
        report_date date, sessions bigint, users bigint, mean_length_seconds float, p50_length_seconds float,
        p95_length_seconds float, mean_actions float);
    CREATE TABLE marts.dm_cohort_retention (
        cohort_week date, week_number int, cohort_users bigint, active_users bigint, retention float,
        week_complete boolean);
"""
_ROWS = """
    INSERT INTO marts.dm_daily_stats VALUES
        ('2025-12-31', 9, 9, 9, 9, 0, 0, 0, 0, 0, 0, 5, 9, '2026-01-31T09:00Z'),
        ('2026-01-01', 3, 10, 4, 3, 1, 0, 0, 0, 1, 0.25, 5, 9, '2026-01-31T09:00Z'),
        ('2026-01-31', 2, 0, 0, 0, 0, 0, 0, 0, 0, NULL, NULL, NULL, '2026-01-31T09:30Z');
    INSERT INTO marts.dm_model_daily VALUES
        ('2026-01-01', 'sasrec-a', 3, 0, 0, 1, 1, 1, 1, 1, 1, 5, 9, 1.5, 30, 3, 0.1),
        ('2026-01-02', 'sasrec-b', 1, 0, 0, 1, 1, 1, 1, 1, 1, 5, 9, 1.5, 0, 0, NULL);
    INSERT INTO marts.dm_click_through_daily VALUES
        ('2026-01-01', 'sasrec-a', 1, 10, 10, 3), ('2026-01-02', 'sasrec-a', 1, 30, 30, 1),
        ('2026-01-02', 'sasrec-a', 2, 4, 0, 0), ('2025-12-31', 'sasrec-a', 1, 100, 100, 100);
    INSERT INTO marts.dm_item_daily VALUES
        ('2026-01-01', '10', 2, 1, 1, 0, 0, 0, 1, 1, 1, 1), ('2026-01-02', '10', 3, 3, 0, 0, 0, 0, 3, 5, 1, 0),
        ('2026-01-02', '11', 1, 1, 0, 0, 0, 0, 0, NULL, 0, 0);
    INSERT INTO marts.dm_items VALUES ('10', 'Solaris, the *film*', '{Drama,Sci-Fi}'), ('11', NULL, '{}');
    INSERT INTO marts.dm_session_daily VALUES ('2026-01-01', 4, 3, 90, 60, 300, 2.5);
    INSERT INTO marts.dm_cohort_retention VALUES
        ('2025-12-29', 0, 4, 4, 1, true), ('2025-12-29', 1, 4, 1, 0.25, true), ('2025-12-22', 0, 9, 9, 1, true);
"""


@pytest.fixture
def empty_marts(database: PostgresSettings) -> PostgresSettings:
    with connect(database, "tests") as connection:
        connection.execute(_MARTS.encode())
    return database


@pytest.fixture
def marts(empty_marts: PostgresSettings) -> PostgresSettings:
    with connect(empty_marts, "tests") as connection:
        connection.execute(_ROWS.encode())
    return empty_marts


@pytest.fixture
def page() -> Iterator[AppTest]:
    """Return the page alone; what is cached belongs to one test."""

    def script() -> None:
        from ui.views import analytics

        analytics.page()

    st.cache_data.clear()
    yield AppTest.from_function(script, default_timeout=60)
    st.cache_data.clear()


def _points_at(settings: PostgresSettings, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("host", "port", "db", "user"):
        monkeypatch.setenv(f"POSTGRES_{name.upper()}", str(getattr(settings, name)))
    monkeypatch.setenv("POSTGRES_PASSWORD", settings.password.get_secret_value())


def test_the_extent_is_that_of_the_days(marts: PostgresSettings) -> None:
    assert read_extent(marts) == Extent(date(2025, 12, 31), date(2025, 12, 31), DAYS[1], NOW)


def test_days_outside_the_range_do_not_count(marts: PostgresSettings) -> None:
    assert list(read_mart(marts, Mart.DAYS, *DAYS)["report_date"]) == list(DAYS)
    assert list(read_mart(marts, Mart.SESSIONS, date(2026, 1, 2), DAYS[1])["sessions"]) == []


def test_click_through_is_taken_of_final_over_the_range(marts: PostgresSettings) -> None:
    table = read_mart(marts, Mart.RANKS, *DAYS)
    first, second = table.itertuples()
    assert (first.rank, first.final_items, first.taken_items, first.ctr) == (1, 40, 4, 0.1)
    assert (second.rank, second.recommended_items) == (2, 4)
    assert list(table["ctr"].isna()) == [False, True]


def test_items_have_titles_and_ranks_weighed_by_recommendations(marts: PostgresSettings) -> None:
    table = read_mart(marts, Mart.ITEMS, *DAYS)
    solaris, unknown = table.itertuples()
    assert (solaris.item_id, solaris.genres, solaris.interactions, solaris.mean_rank) == ("10", "Drama, Sci-Fi", 5, 4)
    assert unknown.item_id == "11"
    assert list(table["title"].isna()) == [False, True]


def test_a_cohort_counts_whose_week_touches_the_range(marts: PostgresSettings) -> None:
    table = read_mart(marts, Mart.RETENTION, *DAYS)
    assert list(table["retention"]) == [1, 0.25]


@pytest.mark.parametrize("section", ["Days", "Models", "Click-through", "Items", "Sessions", "Retention"])
def test_each_mart_is_drawn_with_its_table(
    section: str, marts: PostgresSettings, page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    _points_at(marts, monkeypatch)
    page.session_state["mart"] = section
    page.run()
    assert not page.exception
    assert not page.warning
    assert page.get("vega_lite_chart") or page.get("arrow_vega_lite_chart")
    assert len(page.dataframe) == 1
    assert page.get("download_button")


def test_empty_marts_are_explained(
    empty_marts: PostgresSettings, page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    _points_at(empty_marts, monkeypatch)
    assert "./run marts" in page.run().info[0].value


def test_missing_marts_say_how_to_make_them(
    database: PostgresSettings, page: AppTest, monkeypatch: pytest.MonkeyPatch
) -> None:
    _points_at(database, monkeypatch)
    page.run()
    assert not page.exception
    with pytest.raises(MartsError, match=r"\./run marts"):
        read_extent(database)
    assert "marts makes them" in page.warning[0].value


def test_without_a_password_or_a_database_there_is_a_sentence(
    page: AppTest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert "no password" in page.run().warning[0].value
    monkeypatch.setenv("POSTGRES_PASSWORD_FILE", str(tmp_path / "nowhere"))
    assert "no password" in page.run().warning[0].value
    [port] = free_ports(1)
    monkeypatch.delenv("POSTGRES_PASSWORD_FILE")
    monkeypatch.setenv("POSTGRES_PASSWORD", "x")
    monkeypatch.setenv("POSTGRES_PORT", str(port))
    page.run()
    assert not page.exception
    assert "is away" in page.warning[0].value


def test_titles_survive_the_csv(marts: PostgresSettings) -> None:
    text = read_mart(marts, Mart.ITEMS, *DAYS).to_csv(index=False)
    assert next(iter(csv.DictReader(io.StringIO(text))))["title"] == "Solaris, the *film*"
