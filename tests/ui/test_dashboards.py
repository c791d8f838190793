"""Grafana's dashboards as the page reads them, and values with their units."""

import json
from pathlib import Path

import pytest

from ui.dashboards import Target, expand, legend, read_dashboards, reduced
from ui.health import Queue, read_waiting
from ui.panel_charts import separate_buckets
from ui.units import with_unit

DASHBOARD = {
    "title": "Overview",
    "uid": "overview",
    "schemaVersion": 41,
    "templating": {
        "list": [
            {"name": "datasource", "type": "datasource", "current": {"value": "default"}},
            {"name": "worker", "type": "query", "current": {"value": ["$__all"]}},
            {"name": "topic", "type": "custom", "current": {"value": ["a", "b"]}},
        ]
    },
    "panels": [
        {"type": "timeseries", "title": "right", "gridPos": {"x": 12, "y": 1, "w": 12, "h": 8}},
        {"type": "row", "title": "Traffic", "gridPos": {"x": 0, "y": 0, "w": 24, "h": 1}},
        {
            "type": "timeseries",
            "title": "left",
            "gridPos": {"x": 0, "y": 1, "w": 12, "h": 8},
            "targets": [{"expr": "up", "legendFormat": "{{instance}}", "unknown": {"member": 1}}],
        },
        {
            "type": "row",
            "title": "Folded",
            "collapsed": True,
            "gridPos": {"x": 0, "y": 9, "w": 24, "h": 1},
            "panels": [{"type": "stat", "title": "inner", "gridPos": {"x": 0, "y": 10, "w": 24, "h": 4}}],
        },
    ],
}


def test_panels_lie_as_in_grafana_and_broken_files_are_left_out(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text(json.dumps({**DASHBOARD, "title": "Kafka"}))
    (tmp_path / "b.json").write_text("{")
    (tmp_path / "c.json").write_text(json.dumps(DASHBOARD))
    overview, kafka = read_dashboards(tmp_path)
    assert (overview.title, kafka.title) == ("Overview", "Kafka")
    assert [[panel.title for panel in row] for row in overview.rows()] == [
        ["Traffic"],
        ["left", "right"],
        ["Folded"],
        ["inner"],
    ]
    assert overview.variables() == {"worker": ".*", "topic": "a|b"}
    assert read_dashboards(tmp_path / "nowhere") == []


def test_variables_of_grafana_and_of_the_dashboard_get_their_values() -> None:
    text = 'rate(x{w=~"$worker",t=~"${topic:regex}"}[$__rate_interval]) / y[$__range] + z[[[__interval]]] $unknown'
    assert expand(text, {"worker": ".*", "topic": "a|b"}, 3600, 30) == (
        'rate(x{w=~".*",t=~"a|b"}[35s]) / y[3600s] + z[30s] $unknown'
    )
    # A rate needs several scrapes, however short the time shown.
    assert expand("$__rate_interval", {}, 300, 5) == "20s"


def test_series_are_named_by_the_format_or_by_their_labels() -> None:
    labels = {"__name__": "up", "job": "api", "instance": "a"}
    assert legend(Target(legend_format="{{ job }}/{{instance}}"), labels, "Panel") == "api/a"
    assert legend(Target(legend_format="{{nothing}}"), labels, "Panel") == "Panel"
    assert legend(Target(legend_format="__auto"), {"__name__": "up", "job": "api"}, "Panel") == "api"
    assert legend(Target(), labels, "Panel") == "instance a, job api"
    assert legend(Target(), {}, "Panel") == "Panel"


@pytest.mark.parametrize(("calc", "value"), [("lastNotNull", 4), ("mean", 2), ("max", 4), ("min", 0), ("sum", 6)])
def test_many_values_become_one_as_the_panel_says(calc: str, value: float) -> None:
    assert reduced([2, 0, 4], {"reduceOptions": {"calcs": [calc]}}) == value
    assert reduced([], {"reduceOptions": {"calcs": [calc]}}) is None
    assert reduced([2, 0, 4], {}) == 4


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.0067, "s", "6.7 ms"),
        (300, "s", "5 min"),
        (90_000, "s", "25 h"),
        (6.7, "ms", "6.7 ms"),
        (0.427, "percentunit", "42.7%"),
        (12, "percent", "12%"),
        (12_345, "reqps", "12.3k/s"),
        (0.123456, "short", "0.123"),
        (1234, "", "1,234"),
        (2_500_000_000, "bytes", "2.5GB"),
        (0, "s", "0 s"),
        (-3, "", "-3"),
    ],
)
def test_values_are_written_with_their_unit(value: float, unit: str, text: str) -> None:
    assert with_unit(value, unit) == text


def test_cumulative_buckets_become_separate_ones() -> None:
    cumulative = {float("inf"): [(0.0, 9.0), (5.0, 9.0)], 1.0: [(0.0, 2.0)], 10.0: [(0.0, 7.0), (5.0, 8.0)]}
    assert separate_buckets(cumulative) == [
        (1.0, [(0.0, 2.0)]),
        (10.0, [(0.0, 5.0), (5.0, 8.0)]),
        (float("inf"), [(0.0, 2.0), (5.0, 1.0)]),
    ]


def test_what_waits_is_read_from_the_apis_metrics() -> None:
    found = read_waiting(
        "# TYPE outbox_backlog_rows gauge\noutbox_backlog_rows 3.0\n"
        "# TYPE kafka_group_lag_records gauge\n"
        'kafka_group_lag_records{group="worker",topic="inference.requests"} 12.0\n'
        "# TYPE kafka_dead_letter_records gauge\n"
        'kafka_dead_letter_records{topic="activity.events"} 1.0\n'
    )
    assert (found.backlog, found.queues) == (3, [Queue("inference.requests", "worker", 12)])
    assert found.set_aside == {"activity.events": 1}
    assert read_waiting("").backlog is None
