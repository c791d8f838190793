"""Draws a dashboard's panels, each by its type, from what Prometheus answers."""

import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pandas as pd
import streamlit as st

from ui import panel_charts, resources
from ui.dashboards import Dashboard, Panel, Target, expand, legend, reduced
from ui.formatting import plain
from ui.prometheus_api import PrometheusError, Series
from ui.units import with_unit

_POINTS = 200
_HEAT_COLUMNS = 60
_CHART_PX, _STAT_PX, _LEGEND_ROW_PX = 250, 122, 18
_LINES = frozenset({"timeseries", "graph", "state-timeline", "status-history", "trend"})
_BARS = frozenset({"bargauge", "barchart", "piechart", "histogram"})
_ICONS = {"red": ":red[:material/error:]", "orange": ":orange[:material/warning:]"}


@dataclass(frozen=True, slots=True)
class Window:
    """The time that is shown, in Unix seconds."""

    start: float
    end: float

    def step(self, points: int) -> float:
        """Return the distance of so many points, at least a scrape's."""
        return float(max(5, math.ceil((self.end - self.start) / points / 5) * 5))


@st.cache_data(ttl=30, max_entries=600, show_spinner=False)
def _range(expression: str, start: float, end: float, step: float) -> list[Series]:
    return resources.prometheus().query_range(expression, start, end, step)


@st.cache_data(ttl=30, max_entries=600, show_spinner=False)
def _instant(expression: str, at: float) -> list[Series]:
    return resources.prometheus().query(expression, at)


def show_dashboard(dashboard: Dashboard, window: Window) -> None:
    """Show every panel of a dashboard, as they lie in Grafana. A panel that fails says so in its own place."""
    variables = dashboard.variables()
    rows = list(dashboard.rows())
    wanted = [panel for row in rows for panel in row if panel.type not in {"row", "text"}]
    with ThreadPoolExecutor(max_workers=8, thread_name_prefix="panels") as pool:
        asked = {id(panel): pool.submit(_ask, panel, variables, window) for panel in wanted}
        for row in rows:
            if row[0].type == "row":
                st.markdown(f"##### {plain(row[0].title)}")
                continue
            widths = [panel.grid_pos.w for panel in row]
            rest = 24 - sum(widths)
            columns = st.columns([*widths, rest] if rest > 0 else widths, gap="small")
            for panel, column in zip(row, columns, strict=False):
                with column:
                    future = asked.get(id(panel))
                    _show(panel, future.result if future is not None else None, window)


Answers = list[tuple[Target, list[Series]]]


def _ask(panel: Panel, variables: dict[str, str], window: Window) -> Answers:
    """Return what Prometheus answers to each target of the panel. Raises PrometheusError."""
    step = window.step(_HEAT_COLUMNS if panel.type == "heatmap" else _POINTS)
    answers = []
    for target in panel.targets:
        if target.hide or not target.expr:
            continue
        expression = expand(target.expr, variables, window.end - window.start, step)
        if panel.type == "table" or (target.instant and panel.type not in _LINES):
            answers.append((target, _instant(expression, window.end)))
        else:
            answers.append((target, _range(expression, window.start, window.end, step)))
    return answers


def _show(panel: Panel, answer: Callable[[], Answers] | None, window: Window) -> None:
    if panel.type == "text":
        st.markdown(str(panel.options.get("content", "")))
        return
    stat = panel.type in {"stat", "gauge"}
    with st.container(border=True, height="stretch" if stat else "content"):
        st.markdown(f"**{plain(panel.title)}**", help=panel.description or None)
        try:
            answers = answer() if answer is not None else []
        except PrometheusError as error:
            with st.container(height=_STAT_PX if stat else _CHART_PX, border=False):
                st.caption(plain(str(error)))
            return
        if stat:
            _show_stat(panel, answers)
        elif panel.type == "heatmap":
            _show_heatmap(panel, answers, window)
        elif panel.type == "table":
            _show_table(panel, answers)
        elif panel.type in _BARS:
            _show_bars(panel, answers)
        elif panel.type in _LINES:
            _show_lines(panel, answers, window)
        else:
            st.caption(f"Panels of the type {plain(panel.type)} are drawn in Grafana only.")


def _named(panel: Panel, answers: Answers) -> list[tuple[str, list[tuple[float, float]]]]:
    return [
        (legend(target, series.labels, panel.title), series.points)
        for target, found in answers
        for series in found
        if series.points
    ]


def _show_lines(panel: Panel, answers: Answers, window: Window) -> None:
    defaults = panel.field_config.defaults
    named = _named(panel, answers)
    if not named:
        _show_nothing(_CHART_PX)
        return
    stacking = defaults.custom.get("stacking") or {}
    legend_rows = math.ceil(min(len(named), 12) / panel_charts.LEGEND_COLUMNS)
    st.altair_chart(
        panel_charts.lines(
            named,
            window.start,
            window.end,
            window.step(_POINTS),
            defaults.unit,
            stacked=stacking.get("mode") in {"normal", "percent"},
            bounds=(defaults.min, defaults.max),
        ),
        height=_CHART_PX + _LEGEND_ROW_PX * max(legend_rows - 2, 0),
        alt=_spoken(named, defaults.unit),
    )


def _show_nothing(height: int) -> None:
    """Say that there is no data, in the place that it would take."""
    with st.container(height=height, border=False):
        st.caption("Nothing was measured in this time.")


def _spoken(named: Sequence[tuple[str, list[tuple[float, float]]]], unit: str) -> str:
    return "Latest values: " + ", ".join(f"{name} {with_unit(points[-1][1], unit)}" for name, points in named[:8]) + "."


def _show_stat(panel: Panel, answers: Answers) -> None:
    defaults = panel.field_config.defaults
    named = _named(panel, answers)
    if not named:
        st.metric(panel.title, "-", label_visibility="collapsed")
        return
    several = len(named) > 1
    with st.container(horizontal=True, gap="small"):
        for name, points in named:
            values = [value for _, value in points]
            value = reduced(values, panel.options)
            assert value is not None
            label = f"{_warning(panel, value)} {plain(name)}".strip()
            st.metric(
                label if several or _warning(panel, value) else panel.title,
                with_unit(value, defaults.unit, defaults.decimals),
                label_visibility="visible" if several or _warning(panel, value) else "collapsed",
                width="content",
            )
    if panel.type == "gauge" and defaults.max is not None and value is not None and not several:
        lowest = defaults.min or 0.0
        share = (value - lowest) / (defaults.max - lowest) if defaults.max > lowest else 0.0
        st.progress(min(max(share, 0.0), 1.0))


def _warning(panel: Panel, value: float) -> str:
    """Return an icon where the panel's thresholds call the value bad."""
    thresholds = panel.field_config.defaults.thresholds
    colour = ""
    for step in thresholds.steps if thresholds is not None else []:
        if step.value is None or value >= step.value:
            colour = step.color
    if "red" in colour:
        return _ICONS["red"]
    return _ICONS["orange"] if "orange" in colour or "yellow" in colour else ""


def _show_bars(panel: Panel, answers: Answers) -> None:
    defaults = panel.field_config.defaults
    values = [
        (name, value)
        for name, points in _named(panel, answers)
        if (value := reduced([value for _, value in points], panel.options)) is not None
    ]
    if not values:
        _show_nothing(_CHART_PX)
        return
    st.altair_chart(
        panel_charts.bars(values, defaults.unit),
        height=_CHART_PX,
        alt=", ".join(f"{name} {with_unit(value, defaults.unit)}" for name, value in values) + ".",
    )


def _show_heatmap(panel: Panel, answers: Answers, window: Window) -> None:
    cumulative = {
        float(series.labels["le"]): series.points for _, found in answers for series in found if "le" in series.labels
    }
    buckets = panel_charts.separate_buckets(cumulative)
    if not any(value > 0 for _, points in buckets for _, value in points):
        _show_nothing(_CHART_PX)
        return
    unit = str(((panel.options.get("yAxis") or {}).get("unit")) or panel.field_config.defaults.unit)
    st.altair_chart(
        panel_charts.heatmap(buckets, window.start, window.end, window.step(_HEAT_COLUMNS), unit),
        height=_CHART_PX,
        alt=f"Heat map of {len(buckets)} buckets over time.",
    )


def _show_table(panel: Panel, answers: Answers) -> None:
    defaults = panel.field_config.defaults
    hidden, renamed = {"__name__"}, dict[str, str]()
    for transformation in panel.transformations:
        if transformation.id == "organize":
            hidden |= {name for name, hide in (transformation.options.get("excludeByName") or {}).items() if hide}
            renamed |= transformation.options.get("renameByName") or {}
    several = len(answers) > 1
    merged: dict[tuple[tuple[str, str], ...], dict[str, str]] = {}
    for number, (_, found) in enumerate(answers):
        column = f"Value #{chr(ord('A') + number)}" if several else "Value"
        for series in found:
            labels = {name: text for name, text in series.labels.items() if name not in hidden}
            row = merged.setdefault(tuple(sorted(labels.items())), dict(labels))
            if series.points and column not in hidden:
                row[column] = with_unit(series.points[-1][1], defaults.unit, defaults.decimals)
    table = pd.DataFrame(list(merged.values())).rename(columns=renamed)
    if table.empty:
        _show_nothing(_CHART_PX)
        return
    with st.container(height=_CHART_PX, border=False):
        st.dataframe(table, hide_index=True, alt=panel.title, placeholder="-")
