"""Charts of the marts. Days are UTC's wherever the browser is."""

from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any, Literal

import altair as alt
import pandas as pd

HEIGHT = 240
_ROW_PX = 22
_PADDING = {"left": 0, "top": 4, "right": 8, "bottom": 0}
_SHARE = "%"
_LEAST_SHARE = 0.01
"""The least that an axis of shares reaches to: all zeros would have none."""
_DAY_MS = 86_400_000

Span = tuple[date, date]
"""The days shown, both included."""


def bars_by_day(table: pd.DataFrame, columns: Mapping[str, str], span: Span) -> alt.Chart:
    """Return counts a day, stacked; `columns` are those of the table with their names. A day without a row is zero."""
    return _bars(_long(table, columns), span)


def bars_by_day_and(table: pd.DataFrame, by: str, column: str, span: Span) -> alt.Chart:
    """Return one count a day, stacked by another column."""
    return _bars(_in_utc(table[["report_date", by, column]]), span)


def lines_by_day(
    table: pd.DataFrame, columns: Mapping[str, str], span: Span, number_format: str = ",.3~f"
) -> alt.Chart:
    """Return values a day, as lines; a day without a value has no point."""
    return _lines(_long(table, columns), span, number_format)


def lines_by_day_and(table: pd.DataFrame, by: str, column: str, span: Span, number_format: str = ",.3~f") -> alt.Chart:
    """Return one value a day, a line for each value of another column."""
    return _lines(_in_utc(table[["report_date", by, column]]), span, number_format)


def click_through_by_rank(table: pd.DataFrame) -> alt.Chart:
    """Return the share of recommended items that were taken, at each rank, over all models of the table."""
    sums = table.groupby("rank", as_index=False)[["final_items", "taken_items"]].sum()
    sums["ctr"] = sums["taken_items"] / sums["final_items"].where(sums["final_items"] > 0)
    chart: alt.Chart = (
        alt.Chart(sums.dropna(subset=["ctr"]), height=HEIGHT, padding=_PADDING)
        .mark_bar(cornerRadiusEnd=2)
        .encode(
            x=alt.X("rank:O", title="Rank", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("ctr:Q", title=None, axis=alt.Axis(format=_SHARE, minExtent=36)),
            tooltip=[
                alt.Tooltip("rank:O", title="Rank"),
                alt.Tooltip("ctr:Q", title="Click-through", format=".2%"),
                alt.Tooltip("taken_items:Q", title="Taken", format=","),
                alt.Tooltip("final_items:Q", title="Recommended, outcome known", format=","),
            ],
        )
    )
    return chart


def items(table: pd.DataFrame, column: str, name: str) -> alt.Chart:
    """Return one bar an item, in the table's order; `label` is the table's column with what to write beside it."""
    chart: alt.Chart = (
        alt.Chart(table, height=_ROW_PX * max(len(table), 4) + 30, padding=_PADDING)
        .mark_bar(cornerRadiusEnd=2)
        .encode(
            y=alt.Y("label:N", title=None, sort=None, axis=alt.Axis(labelLimit=170)),
            x=alt.X(f"{column}:Q", title=name, axis=alt.Axis(tickMinStep=1, tickCount=5)),
            tooltip=[
                alt.Tooltip("label:N", title="Item"),
                alt.Tooltip("genres:N", title="Genres"),
                alt.Tooltip(f"{column}:Q", title=name, format=","),
            ],
        )
    )
    return chart


def retention(table: pd.DataFrame) -> alt.Chart:
    """Return which share of each cohort came back in which week; weeks that are not over are left out."""
    whole = table[table["week_complete"]].assign(cohort=table["cohort_week"].map(str))
    cohorts = list(dict.fromkeys(whole["cohort"]))
    chart: alt.Chart = (
        alt.Chart(whole, height=_ROW_PX * max(len(cohorts), 4) + 60, padding=_PADDING)
        .mark_rect()
        .encode(
            x=alt.X("week_number:O", title="Weeks after the first", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("cohort:O", title=None, sort=cohorts),
            color=alt.Color(
                "retention:Q",
                title=None,
                scale=alt.Scale(domain=[0, 1]),
                legend=alt.Legend(orient="top", format=_SHARE, gradientLength=160, gradientThickness=8, tickCount=3),
            ),
            tooltip=[
                alt.Tooltip("cohort:N", title="First week"),
                alt.Tooltip("week_number:O", title="Week"),
                alt.Tooltip("retention:Q", title="Came back", format=".1%"),
                alt.Tooltip("active_users:Q", title="Users", format=","),
                alt.Tooltip("cohort_users:Q", title="Of", format=","),
            ],
        )
    )
    return chart


def _long(table: pd.DataFrame, columns: Mapping[str, str]) -> pd.DataFrame:
    named = table[["report_date", *columns]].rename(columns=dict(columns))
    return _in_utc(named.melt(id_vars="report_date"))


def _in_utc(rows: pd.DataFrame) -> pd.DataFrame:
    rows = rows.set_axis(["day", "which", "value"], axis=1)
    # Without a zone a browser would take them for days of its own.
    return rows.assign(day=pd.to_datetime(rows["day"], utc=True), value=pd.to_numeric(rows["value"]))


def _bars(rows: pd.DataFrame, span: Span) -> alt.Chart:
    chart: alt.Chart = (
        alt.Chart(rows, height=HEIGHT, padding=_PADDING)
        .mark_bar()
        .encode(x=_day(span), y=_value("~s", "zero"), color=_which(rows), tooltip=_pointed_at(","))
    )
    return chart


def _lines(rows: pd.DataFrame, span: Span, number_format: str) -> alt.Chart:
    rows = rows.dropna(subset=["value"])
    highest: Any = alt.Undefined
    if number_format.endswith("%") and not rows["value"].max() > _LEAST_SHARE:
        highest = _LEAST_SHARE
    axis_format = ".3~%" if number_format.endswith("%") else "~s"
    chart: alt.Chart = (
        alt.Chart(rows, height=HEIGHT, padding=_PADDING)
        .mark_line(point=True)
        .encode(
            x=_day(span),
            y=_value(axis_format, None, highest),
            color=_which(rows),
            tooltip=_pointed_at(number_format),
        )
    )
    return chart


def _day(span: Span) -> alt.X:
    first, last = span
    return alt.X(
        "utcyearmonthdate(day):T",
        title=None,
        scale=alt.Scale(type="utc", domain=[_midnight(first), _midnight(last + timedelta(days=1))]),
        axis=alt.Axis(grid=False, format="%d %b", tickCount=6, tickMinStep=_DAY_MS, labelOverlap=True, labelAngle=0),
    )


def _midnight(day: date) -> alt.DateTime:
    return alt.DateTime(year=day.year, month=day.month, date=day.day, utc=True)


def _value(axis_format: str, stack: Literal["zero"] | None, highest: Any = alt.Undefined) -> alt.Y:
    return alt.Y(
        "value:Q",
        title=None,
        stack=stack,
        scale=alt.Scale(zero=True, domainMax=highest),
        axis=alt.Axis(format=axis_format, minExtent=36, tickCount=5),
    )


def _which(rows: pd.DataFrame) -> alt.Color:
    names = list(dict.fromkeys(rows["which"]))
    return alt.Color(
        "which:N",
        scale=alt.Scale(domain=names),
        legend=None if len(names) < 2 else alt.Legend(orient="top", title=None, columns=2, labelLimit=170),
    )


def _pointed_at(number_format: str) -> list[alt.Tooltip]:
    return [
        alt.Tooltip("utcyearmonthdate(day):T", title="Day (UTC)", format="%d %b %Y"),
        alt.Tooltip("which:N", title="Which"),
        alt.Tooltip("value:Q", title="Value", format=number_format),
    ]
