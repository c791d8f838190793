"""Charts of the marts."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

HEIGHT = 260


def by_day(table: pd.DataFrame, columns: dict[str, str], title: str, *, form: str = ",.0f") -> alt.Chart:
    """Return lines over days: `columns` gives each column's name on the chart; days without a value have a gap."""
    long = table.melt("report_date", list(columns), "which", "value").replace({"which": columns})
    long["report_date"] = pd.to_datetime(long["report_date"])
    chart: alt.Chart = (
        alt.Chart(long.dropna(subset=["value"]), height=HEIGHT)
        .mark_line(point=True)
        .encode(
            x=alt.X("report_date:T", title=None),
            y=alt.Y("value:Q", title=title, axis=alt.Axis(format=form), scale=alt.Scale(zero=True)),
            color=alt.Color("which:N", sort=list(columns.values()), legend=alt.Legend(orient="top", title=None)),
            tooltip=[
                alt.Tooltip("report_date:T", title="Day"),
                alt.Tooltip("which:N", title="What"),
                alt.Tooltip("value:Q", title=title, format=form),
            ],
        )
    )
    return chart


def bars(table: pd.DataFrame, name: str, value: str, titles: tuple[str, str], *, form: str = ",.0f") -> alt.Chart:
    """Return a bar a row, in the table's order; `titles` are those of name and value."""
    order: Sequence[str] = table[name].astype(str).tolist()
    chart: alt.Chart = (
        alt.Chart(table.assign(**{name: table[name].astype(str)}), height=HEIGHT)
        .mark_bar()
        .encode(
            x=alt.X(f"{name}:N", sort=order, title=titles[0], axis=alt.Axis(labelAngle=0, labelLimit=140)),
            y=alt.Y(f"{value}:Q", title=titles[1], axis=alt.Axis(format=form)),
            tooltip=[
                alt.Tooltip(f"{name}:N", title=titles[0]),
                alt.Tooltip(f"{value}:Q", title=titles[1], format=form),
            ],
        )
    )
    return chart


def retention(table: pd.DataFrame) -> alt.Chart:
    """Return a square for each cohort's week: the share of the cohort that was there."""
    table = table.assign(cohort_week=table["cohort_week"].astype(str))
    chart: alt.Chart = (
        alt.Chart(table, height=max(HEIGHT, 16 * table["cohort_week"].nunique()))
        .mark_rect()
        .encode(
            x=alt.X("week_number:O", title="Weeks after the first", axis=alt.Axis(labelAngle=0)),
            y=alt.Y("cohort_week:O", title="First week", sort="descending"),
            color=alt.Color(
                "retention:Q", title="Share", scale=alt.Scale(domain=[0, 1]), legend=alt.Legend(format="%")
            ),
            tooltip=[
                alt.Tooltip("cohort_week:O", title="First week"),
                alt.Tooltip("week_number:O", title="Weeks after"),
                alt.Tooltip("cohort_users:Q", title="People"),
                alt.Tooltip("retention:Q", title="Came back", format=".0%"),
            ],
        )
    )
    return chart
