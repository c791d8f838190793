"""Analytics: the marts as charts over a range of days, and as CSV."""

from collections.abc import Callable
from datetime import UTC, date, datetime

import altair as alt
import pandas as pd
import streamlit as st

from ui import mart_charts
from ui.formatting import age, milliseconds, plain
from ui.marts import MOST_ITEMS, Extent, Mart, MartsError, marts_settings, read_extent, read_mart

_KEPT_SECONDS = 60
_TOP = 20
_ROWS, _ROW, _HEADER = 8, 35, 38


@st.cache_data(ttl=_KEPT_SECONDS, show_spinner=False)
def _extent() -> Extent | None:
    return read_extent(marts_settings())


@st.cache_data(ttl=_KEPT_SECONDS, max_entries=100, show_spinner=False)
def _mart(mart: str, start: date, end: date) -> pd.DataFrame:
    return read_mart(marts_settings(), Mart[mart], start, end)


def page() -> None:
    """Draw the page."""
    st.subheader("Analytics", anchor=False)
    try:
        extent = _extent()
        if extent is None:
            st.info(
                "The marts are empty: nothing has happened yet, or they were made before it did. `./run marts` brings "
                "them up to date now; `./run up` does every hour.",
                icon=":material/hourglass_empty:",
            )
            return
        _show(extent)
    except MartsError as error:
        st.warning(plain(str(error)), icon=":material/cloud_off:")
        st.button("Look again", icon=":material/refresh:")


def _show(extent: Extent) -> None:
    with st.container(horizontal=True, vertical_alignment="bottom"):
        chosen = st.date_input(
            "Days (UTC)",
            value=(extent.recent, extent.last),
            min_value=extent.first,
            max_value=extent.last,
            format="YYYY-MM-DD",
            width=260,
        )
        shown = st.segmented_control(
            "What to show", list(_SECTIONS), default="Days", required=True, key="mart", bind="query-params"
        )
    st.caption(f"As of {age(extent.computed_at, datetime.now(UTC))}. `./run marts` brings them up to date now.")
    if len(chosen) != 2:  # one day is chosen, and then the other
        st.info("Choose the last day too.", icon=":material/date_range:")
        return
    mart, draw = _SECTIONS[shown]
    start, end = chosen
    table = _mart(mart.name, start, end)
    if table.empty:
        st.info("There is nothing in these days.", icon=":material/date_range:")
        return
    draw(table, chosen)
    st.markdown("**As a table**")
    st.dataframe(
        table,
        hide_index=True,
        height=_HEADER + _ROW * min(len(table), _ROWS),
        placeholder="-",
        alt=f"{shown} as a table.",
    )
    st.download_button(
        "Download CSV",
        table.to_csv(index=False).encode(),
        file_name=f"{mart.name.lower()}-{start}-{end}.csv",
        mime="text/csv",
        icon=":material/download:",
        on_click="ignore",
    )


def _days(table: pd.DataFrame, span: mart_charts.Span) -> None:
    predictions, requests = int(table["total_predictions"].sum()), int(table["total_requests"].sum())
    fallbacks = int(table["fallback_predictions"].sum())
    _figures(
        ("Users a day", f"{table['dau'].mean():,.0f}", "Mean of the days with any."),
        ("Interactions", f"{int(table['interactions'].sum()):,}", "In these days."),
        ("Predictions", f"{predictions:,}", "Requests that completed."),
        ("Not completed", f"{requests - predictions:,}", "Failed, expired, cancelled or pending."),
        ("Fallback", f"{fallbacks / predictions:.1%}" if predictions else "-", "Predictions made by popularity."),
    )
    left, right = st.columns(2, gap="medium")
    with left:
        _chart("Daily active users", mart_charts.bars_by_day(table, {"dau": "users"}, span))
        _chart(
            "Latency, accepted to answered, ms",
            mart_charts.lines_by_day(table, {"p50_latency_ms": "median", "p95_latency_ms": "95th percentile"}, span),
            table["p50_latency_ms"].notna().any(),
        )
    with right:
        ends = {"total_predictions": "completed"} | {
            name: name for name in ("failed", "expired", "cancelled", "pending") if table[name].sum() > 0
        }
        _chart("Requests by how they ended", mart_charts.bars_by_day(table, ends, span), requests > 0)
        _chart(
            "Share of fallback",
            mart_charts.lines_by_day(table, {"fallback_share": "fallback"}, span, ".1%"),
            table["fallback_share"].notna().any(),
        )


def _models(table: pd.DataFrame, span: mart_charts.Span) -> None:
    left, right = st.columns(2, gap="medium")
    with left:
        _chart("Predictions", mart_charts.bars_by_day_and(table, "model_version", "predictions", span))
        _chart("Mean score", mart_charts.lines_by_day_and(table, "model_version", "mean_score", span))
    with right:
        _chart(
            "Click-through",
            mart_charts.lines_by_day_and(table, "model_version", "ctr", span, ".2%"),
            table["ctr"].notna().any(),
            _NOT_FINAL,
        )
        _chart(
            "Latency, 95th percentile, ms", mart_charts.lines_by_day_and(table, "model_version", "p95_total_ms", span)
        )


_NOT_FINAL = "No outcome is known yet: whether an item was taken is final 24 hours after it was recommended."


def _ranks(table: pd.DataFrame, _span: mart_charts.Span) -> None:
    shown, final, taken = (int(table[name].sum()) for name in ("recommended_items", "final_items", "taken_items"))
    _figures(
        ("Recommended", f"{shown:,}", "Items in answers to users."),
        ("Outcome known", f"{final:,}", "Those recommended more than 24 hours ago; the share counts only them."),
        ("Taken", f"{taken:,}", "Viewed, liked, bought or rated within 24 hours."),
        ("Click-through", f"{taken / final:.2%}" if final else "-", "Taken of those whose outcome is known."),
    )
    versions = list(dict.fromkeys(table["model_version"]))
    version = st.selectbox("Model", versions, index=None, placeholder="All models", width=360) if versions[1:] else None
    chosen = table if version is None else table[table["model_version"] == version]
    _chart(
        "Click-through by rank", mart_charts.click_through_by_rank(chosen), chosen["final_items"].sum() > 0, _NOT_FINAL
    )


def _items(table: pd.DataFrame, _span: mart_charts.Span) -> None:
    if len(table) == MOST_ITEMS:
        st.caption(f"The {MOST_ITEMS} items with the most interactions and recommendations of these days.")
    labelled = table.assign(label=table["title"].fillna("") + " (" + table["item_id"] + ")")
    left, right = st.columns(2, gap="medium")
    for column, name, heading, place in (
        ("interactions", "Interactions", "Most interactions", left),
        ("recommended", "Recommendations", "Most often recommended", right),
    ):
        top = labelled[labelled[column] > 0].nlargest(_TOP, column)
        with place:
            _chart(heading, mart_charts.items(top, column, name), not top.empty)


def _sessions(table: pd.DataFrame, span: mart_charts.Span) -> None:
    sessions = int(table["sessions"].sum())
    mean = (table["mean_length_seconds"] * table["sessions"]).sum() / sessions if sessions else 0.0
    actions = (table["mean_actions"] * table["sessions"]).sum() / sessions if sessions else 0.0
    _figures(
        ("Sessions", f"{sessions:,}", "A gap of more than 30 minutes begins another."),
        ("Mean length", f"{mean / 60:.1f} min" if mean >= 60 else milliseconds(mean * 1000), "First to last act."),
        ("Acts a session", f"{actions:.1f}", "Interactions and requests."),
    )
    left, right = st.columns(2, gap="medium")
    with left:
        _chart("Sessions", mart_charts.bars_by_day(table, {"sessions": "sessions"}, span))
    with right:
        lengths = {
            "mean_length_seconds": "mean",
            "p50_length_seconds": "median",
            "p95_length_seconds": "95th percentile",
        }
        minutes = table.assign(**{name: table[name] / 60 for name in lengths})
        _chart("Length, minutes", mart_charts.lines_by_day(minutes, lengths, span))


def _retention(table: pd.DataFrame, _span: mart_charts.Span) -> None:
    _chart(
        "Share of each week's new users who came back",
        mart_charts.retention(table),
        table["week_complete"].any(),
        "No week of these cohorts is over yet.",
    )


def _figures(*figures: tuple[str, str, str]) -> None:
    with st.container(horizontal=True, gap="small", key="figures"):
        for name, value, explanation in figures:
            st.metric(name, value, help=explanation, border=True)


def _chart(heading: str, chart: alt.Chart, drawn: object = True, otherwise: str = "There is nothing to draw.") -> None:
    """Show a chart, or a sentence in its place where `drawn` is false."""
    st.markdown(f"**{heading}**")
    if drawn:
        st.altair_chart(chart, alt=f"{heading}; the table below has the values.")
    else:
        with st.container(height=mart_charts.HEIGHT, border=False):
            st.caption(otherwise)


_SECTIONS: dict[str, tuple[Mart, Callable[[pd.DataFrame, mart_charts.Span], None]]] = {
    "Days": (Mart.DAYS, _days),
    "Models": (Mart.MODELS, _models),
    "Click-through": (Mart.RANKS, _ranks),
    "Items": (Mart.ITEMS, _items),
    "Sessions": (Mart.SESSIONS, _sessions),
    "Retention": (Mart.RETENTION, _retention),
}
