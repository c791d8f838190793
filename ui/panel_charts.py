"""Panels of dashboards as Altair charts. Each keeps its axes while it is live, so that nothing jumps."""

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

import altair as alt
import pandas as pd

from ui.units import axis_label, with_unit

Line = tuple[str, Sequence[tuple[float, float]]]
"""A name and its points: (Unix time in seconds, value)."""

LEGEND_COLUMNS = 2
_MOST_LEGENDS = 12
_PADDING = {"left": 0, "top": 0, "right": 8, "bottom": 0}


def lines(
    series: Sequence[Line],
    start: float,
    end: float,
    step: float,
    unit: str,
    *,
    stacked: bool = False,
    bounds: tuple[float | None, float | None] = (None, None),
) -> alt.Chart:
    """Return time series; where a series has no value its line is broken."""
    rows = [
        (_moment(moment), name, value, with_unit(value, unit) if value is not None else "")
        for name, points in series
        for moment, value in _with_gaps(points, step)
    ]
    table = pd.DataFrame(rows, columns=["time", "series", "value", "text"])
    names = list(dict.fromkeys(name for name, _ in series))
    base = alt.Chart(table, padding=_PADDING)
    marked = base.mark_area(opacity=0.7) if stacked else base.mark_line(strokeWidth=1.6)
    chart: alt.Chart = marked.encode(
        x=_time_axis(start, end),
        y=alt.Y(
            "value:Q",
            title=None,
            stack="zero" if stacked else None,
            scale=_scale(bounds),
            axis=alt.Axis(labelExpr=axis_label(unit), minExtent=44, tickCount=5),
        ),
        color=alt.Color(
            "series:N",
            sort=names,
            legend=None
            if len(names) < 2
            else alt.Legend(
                orient="top",
                title=None,
                columns=LEGEND_COLUMNS,
                labelLimit=130,
                symbolLimit=_MOST_LEGENDS,
                symbolType="stroke",
                offset=4,
            ),
        ),
        tooltip=[
            alt.Tooltip("time:T", title="When", format="%d %b, %H:%M:%S"),
            alt.Tooltip("series:N", title="Series"),
            alt.Tooltip("text:N", title="Value"),
        ],
    )
    return chart


def heatmap(
    buckets: Sequence[tuple[float, Sequence[tuple[float, float]]]], start: float, end: float, step: float, unit: str
) -> alt.Chart:
    """Return how many fell into each bucket at each time.

    `buckets` are (upper bound, points), counts of this bucket alone, by rising bound; the last bound may be infinite.
    """
    labels = _bucket_labels([bound for bound, _ in buckets], unit)
    rows = [
        (_moment(moment - step), _moment(moment), label, value)
        for label, (_, points) in zip(labels, buckets, strict=True)
        for moment, value in points
        if value > 0
    ]
    table = pd.DataFrame(rows, columns=["from", "to", "bucket", "count"])
    chart: alt.Chart = (
        alt.Chart(table, padding=_PADDING)
        .mark_rect()
        .encode(
            x=_time_axis(start, end, "from"),
            x2="to:T",
            y=alt.Y(
                "bucket:O",
                title=None,
                sort=None,
                scale=alt.Scale(domain=list(reversed(labels))),
                axis=alt.Axis(minExtent=44, labelOverlap=True),
            ),
            color=alt.Color(
                "count:Q",
                title=None,
                legend=alt.Legend(orient="top", gradientLength=160, gradientThickness=8, tickCount=3, offset=4),
                scale=alt.Scale(domainMin=0),
            ),
            tooltip=[
                alt.Tooltip("to:T", title="Until", format="%d %b, %H:%M:%S"),
                alt.Tooltip("bucket:N", title="Bucket"),
                alt.Tooltip("count:Q", title="Value", format=",.3~f"),
            ],
        )
    )
    return chart


def bars(values: Sequence[tuple[str, float]], unit: str) -> alt.LayerChart:
    """Return one bar for each name, with its value beside it."""
    table = pd.DataFrame(
        [(name, value, with_unit(value, unit)) for name, value in values], columns=["name", "value", "text"]
    )
    base = alt.Chart(table, padding=_PADDING).encode(
        y=alt.Y("name:N", title=None, sort=[name for name, _ in values], axis=alt.Axis(labelLimit=160)),
        x=alt.X("value:Q", title=None, axis=alt.Axis(labelExpr=axis_label(unit), tickCount=4)),
        tooltip=[alt.Tooltip("name:N", title="Series"), alt.Tooltip("text:N", title="Value")],
    )
    chart: alt.LayerChart = base.mark_bar(cornerRadiusEnd=2, size=16) + base.mark_text(align="left", dx=4).encode(
        text="text:N"
    )
    return chart


def separate_buckets(
    cumulative: Mapping[float, Sequence[tuple[float, float]]],
) -> list[tuple[float, list[tuple[float, float]]]]:
    """Return the counts of each bucket alone, from Prometheus' counts of all up to each bound (`le`)."""
    below: dict[float, float] = {}
    separate = []
    for bound in sorted(cumulative):
        points = [(moment, max(value - below.get(moment, 0.0), 0.0)) for moment, value in cumulative[bound]]
        below.update(dict(cumulative[bound]))
        separate.append((bound, points))
    return separate


def _bucket_labels(bounds: Sequence[float], unit: str) -> list[str]:
    texts = [with_unit(bound, unit) if math.isfinite(bound) else "" for bound in bounds]
    labels = []
    for number, (bound, text) in enumerate(zip(bounds, texts, strict=True)):
        if math.isfinite(bound):
            labels.append(f"≤ {text}")
        else:
            labels.append(f"> {texts[number - 1]}" if number else "all")
    return labels


def _with_gaps(points: Sequence[tuple[float, float]], step: float) -> list[tuple[float, float | None]]:
    """Return the points, with an empty one where at least one is missing."""
    whole: list[tuple[float, float | None]] = []
    for moment, value in points:
        if whole and moment - whole[-1][0] > 1.5 * step:
            whole.append((moment - step, None))
        whole.append((moment, value))
    return whole


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)


def _scale(bounds: tuple[float | None, float | None]) -> alt.Scale:
    lowest, highest = (alt.Undefined if bound is None else bound for bound in bounds)
    return alt.Scale(zero=True, domainMin=lowest, domainMax=highest)


def _time_axis(start: float, end: float, field: str = "time") -> alt.X:
    return alt.X(
        f"{field}:T",
        title=None,
        scale=alt.Scale(domain=[_vega_time(start), _vega_time(end)]),
        axis=alt.Axis(grid=False, tickCount=5, labelOverlap=True, format=_time_format(end - start)),
    )


def _vega_time(seconds: float) -> alt.DateTime:
    moment = _moment(seconds)
    return alt.DateTime(
        year=moment.year,
        month=moment.month,
        date=moment.day,
        hours=moment.hour,
        minutes=moment.minute,
        seconds=moment.second,
        utc=True,
    )


def _time_format(window: float) -> str:
    if window <= 900:
        return "%H:%M:%S"
    return "%H:%M" if window <= 172_800 else "%d %b %H:%M"
