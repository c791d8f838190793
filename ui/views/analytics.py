"""Analytics: the marts as charts, for a range of days, each with its rows to take away."""

from datetime import date, timedelta

import altair as alt
import pandas as pd
import streamlit as st

from ui.formatting import count
from ui.mart_charts import bars, by_day, retention
from ui.marts import MartsUnavailable, days, read

_DEFAULT_DAYS = 365
_TOP_ITEMS = 20
_LATENCIES = {"p50_latency_ms": "median", "p95_latency_ms": "95th percentile"}
_SUBJECTS = ("Days", "Models", "Click-through", "Items", "Sessions", "Retention")


def page() -> None:
    """Draw the page."""
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.subheader("Analytics", anchor=False, width="stretch")
        subject = st.segmented_control(
            "What to show",
            _SUBJECTS,
            default=_SUBJECTS[0],
            required=True,
            label_visibility="collapsed",
            key="analytics-shown",
            bind="query-params",
        )
    try:
        known = days()
        if known is None:
            st.info("Nothing has happened yet: no interaction and no request is stored.")
            return
        chosen = _choose_days(*known)
        if chosen is None:
            st.info("Choose the last day of the range too.")
            return
        _SHOW[subject](*chosen)
    except MartsUnavailable as problem:
        st.warning(str(problem), icon=":material/database_off:")


def _choose_days(first: date, last: date) -> tuple[date, date] | None:
    begin = max(first, last - timedelta(days=_DEFAULT_DAYS))
    chosen = st.date_input(
        "Days (UTC)",
        (begin, last),
        min_value=first,
        max_value=last,
        format="YYYY-MM-DD",
        key="analytics-days",
        width=260,
    )
    # While a person has chosen the first day only, it is a tuple of one.
    return chosen if len(chosen) == 2 else None


def _show(name: str, table: pd.DataFrame, *charts: tuple[str, alt.Chart]) -> None:
    """Show charts side by side, the rows below, and a button that saves them."""
    if table.empty:
        st.info("Nothing in these days.")
        return
    for column, (title, chart) in zip(st.columns(len(charts), gap="large"), charts, strict=True):
        with column:
            st.markdown(f"**{title}**")
            st.altair_chart(chart, width="stretch")
    with st.container(horizontal=True, vertical_alignment="center"):
        st.caption(f"{count(len(table), 'row')} of `{name}`", width="stretch")
        st.download_button(
            "CSV",
            table.to_csv(index=False).encode(),
            f"{name}.csv",
            "text/csv",
            icon=":material/download:",
            on_click="ignore",
        )
    st.dataframe(table, hide_index=True, height=320, key=f"table-{name}", alt=f"The rows of {name}.")


def _show_days(first: date, last: date) -> None:
    table = read(
        "SELECT * FROM marts.dm_daily_stats WHERE report_date BETWEEN %s AND %s ORDER BY 1 DESC", (first, last)
    )
    table = table.drop(columns="computed_at")
    if not table.empty:
        latest = table.iloc[0]
        with st.container(horizontal=True, key="figures"):
            st.metric(f"People on {latest['report_date']}", f"{latest['dau']:,}", border=True)
            st.metric("Predictions", f"{latest['total_predictions']:,}", border=True)
            st.metric("Interactions", f"{latest['interactions']:,}", border=True)
            lost = latest["failed"] + latest["expired"]
            st.metric("Failed or expired", f"{lost:,}", border=True)
    _show(
        "dm_daily_stats",
        table,
        ("People and predictions", by_day(table, {"dau": "people", "total_predictions": "predictions"}, "A day")),
        (
            "Latency, accepted to answered",
            by_day(
                table, {"p50_latency_ms": "median", "p95_latency_ms": "95th percentile"}, "Milliseconds", form=",.1f"
            ),
        ),
    )


def _show_models(first: date, last: date) -> None:
    table = read(
        "SELECT model_version, sum(predictions)::bigint AS predictions,"
        " sum(fallback_predictions)::bigint AS fallback_predictions, max(p95_total_ms) AS worst_p95_total_ms,"
        " avg(mean_score) AS mean_score, sum(final_items)::bigint AS final_items,"
        " sum(taken_items)::bigint AS taken_items,"
        " sum(taken_items)::float / nullif(sum(final_items), 0) AS ctr"
        " FROM marts.dm_model_daily WHERE report_date BETWEEN %s AND %s GROUP BY 1 ORDER BY max(report_date) DESC, 1",
        (first, last),
    )
    titles = ("Model version", "Predictions")
    _show(
        "dm_model_daily",
        table,
        ("Predictions by model", bars(table, "model_version", "predictions", titles)),
        ("Click-through by model", bars(table, "model_version", "ctr", (titles[0], "Taken within 24 h"), form=".1%")),
    )


def _show_click_through(first: date, last: date) -> None:
    table = read(
        "SELECT rank, sum(recommended_items)::bigint AS recommended_items, sum(final_items)::bigint AS final_items,"
        " sum(taken_items)::bigint AS taken_items, sum(taken_items)::float / nullif(sum(final_items), 0) AS ctr"
        " FROM marts.dm_click_through_daily WHERE report_date BETWEEN %s AND %s GROUP BY rank ORDER BY rank",
        (first, last),
    )
    st.caption("Only recommendations whose 24 hours have passed count, so today's are not here yet.")
    _show(
        "dm_click_through_daily",
        table,
        ("Taken within 24 hours, by rank", bars(table, "rank", "ctr", ("Rank", "Share"), form=".1%")),
        ("Shown, by rank", bars(table, "rank", "recommended_items", ("Rank", "Items"))),
    )


def _show_items(first: date, last: date) -> None:
    table = read(
        "SELECT item_id, title, sum(interactions)::bigint AS interactions, sum(likes)::bigint AS likes,"
        " sum(dismissals)::bigint AS dismissals, sum(recommended)::bigint AS recommended,"
        " sum(taken_items)::float / nullif(sum(final_items), 0) AS ctr"
        " FROM marts.dm_item_daily LEFT JOIN marts.dm_items USING (item_id)"
        " WHERE report_date BETWEEN %s AND %s GROUP BY 1, 2 ORDER BY interactions DESC, recommended DESC, 1 LIMIT 500",
        (first, last),
    )
    top = table.head(_TOP_ITEMS).assign(name=lambda rows: rows["title"].fillna(rows["item_id"]))
    recommended = table.sort_values("recommended", ascending=False).head(_TOP_ITEMS)
    recommended = recommended.assign(name=lambda rows: rows["title"].fillna(rows["item_id"]))
    _show(
        "dm_item_daily",
        table,
        ("Most used", _named(top, "interactions", "Interactions")),
        ("Most recommended", _named(recommended, "recommended", "Times recommended")),
    )


def _named(table: pd.DataFrame, value: str, title: str) -> alt.Chart:
    """Return horizontal bars: titles are long."""
    axis = alt.Axis(labelLimit=180, labelOverlap=False)
    chart: alt.Chart = (
        alt.Chart(table, height=18 * _TOP_ITEMS)
        .mark_bar()
        .encode(
            x=alt.X(f"{value}:Q", title=title),
            y=alt.Y("name:N", sort=table["name"].tolist(), title=None, axis=axis),
            tooltip=["name:N", alt.Tooltip(f"{value}:Q", title=title)],
        )
    )
    return chart


def _show_sessions(first: date, last: date) -> None:
    table = read(
        "SELECT * FROM marts.dm_session_daily WHERE report_date BETWEEN %s AND %s ORDER BY 1 DESC", (first, last)
    )
    table = table.drop(columns="computed_at")
    lengths = {"p50_length_seconds": "median", "p95_length_seconds": "95th percentile"}
    _show(
        "dm_session_daily",
        table,
        ("Sessions and people", by_day(table, {"sessions": "sessions", "users": "people"}, "A day")),
        ("Length of a session", by_day(table, lengths, "Seconds")),
    )


def _show_retention(first: date, last: date) -> None:
    table = read(
        "SELECT cohort_week, week_number, cohort_users, active_users, retention FROM marts.dm_cohort_retention"
        " WHERE week_complete AND cohort_week BETWEEN %s AND %s ORDER BY cohort_week, week_number",
        (first - timedelta(days=6), last),
    )
    st.caption("People by the week of their first day, and how many of them came back in the weeks after.")
    _show("dm_cohort_retention", table, ("Who came back", retention(table)))


_SHOW = {
    "Days": _show_days,
    "Models": _show_models,
    "Click-through": _show_click_through,
    "Items": _show_items,
    "Sessions": _show_sessions,
    "Retention": _show_retention,
}
