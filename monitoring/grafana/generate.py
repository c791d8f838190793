"""Writes the dashboards' JSON beside it, for Grafana and for the page's Operations.

Run it after a change: python monitoring/grafana/generate.py. A test compares what it makes with what is committed.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parent / "dashboards"
_DATA_SOURCE = {"type": "prometheus", "uid": "prometheus"}
_WIDTH = 24

Json = dict[str, Any]
Query = tuple[str, str]
"""An expression, and the legend of its series: labels in double braces."""


def panel(
    kind: str,
    title: str,
    description: str,
    unit: str,
    *queries: Query,
    width: int = 8,
    height: int = 8,
    warn: float | None = None,
) -> Json:
    """Return a panel without its place. `warn` colours values from there on."""
    steps: list[Json] = [{"color": "green", "value": None}]
    if warn is not None:
        steps.append({"color": "orange", "value": warn})
    targets = [
        {
            "datasource": _DATA_SOURCE,
            "refId": chr(ord("A") + number),
            "expr": expression,
            "legendFormat": legend,
            "range": kind not in {"stat", "table"},
            "instant": kind in {"stat", "table"},
            "format": "heatmap" if kind == "heatmap" else "table" if kind == "table" else "time_series",
        }
        for number, (expression, legend) in enumerate(queries)
    ]
    options: Json = {}
    if kind == "stat":
        options = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "none"}
    elif kind == "heatmap":
        options = {"calculate": False, "color": {"mode": "scheme", "scheme": "Blues"}, "yAxis": {"unit": unit}}
    elif kind == "timeseries":
        options = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    return {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": _DATA_SOURCE,
        "gridPos": {"w": width, "h": height},
        "targets": targets,
        "fieldConfig": {
            "defaults": {"unit": unit, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "options": options,
    }


def stat(title: str, description: str, unit: str, expression: str, legend: str = "", **more: Any) -> Json:
    """Return a number: the latest value."""
    return panel("stat", title, description, unit, (expression, legend), width=4, height=4, **more)


def lines(title: str, description: str, unit: str, *queries: Query, **more: Any) -> Json:
    """Return lines over time."""
    return panel("timeseries", title, description, unit, *queries, **more)


def heatmap(title: str, description: str, unit: str, metric: str) -> Json:
    """Return a histogram's buckets over time."""
    query = (f"sum by (le) (increase({metric}_bucket[$__rate_interval]))", "{{le}}")
    return panel("heatmap", title, description, unit, query, width=12, height=9)


def quantiles(metric: str) -> tuple[Query, ...]:
    """Return the median, the 95th and the 99th percentile of a histogram."""
    return tuple(
        (f"histogram_quantile({quantile}, sum by (le) (rate({metric}_bucket[$__rate_interval])))", legend)
        for quantile, legend in ((0.5, "p50"), (0.95, "p95"), (0.99, "p99"))
    )


def dashboard(uid: str, title: str, description: str, panels: Sequence[Json]) -> Json:
    """Return a dashboard: the panels from left to right, in rows of 24, each row as high as its highest."""
    x = y = row_height = 0
    placed = []
    for number, each in enumerate(panels, start=1):
        width, height = each["gridPos"]["w"], each["gridPos"]["h"]
        if x + width > _WIDTH:
            x, y, row_height = 0, y + row_height, 0
        placed.append({"id": number, **each, "gridPos": {"x": x, "y": y, "w": width, "h": height}})
        x, row_height = x + width, max(row_height, height)
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["recstream"],
        "schemaVersion": 41,
        "version": 1,
        "editable": False,
        "refresh": "10s",
        "time": {"from": "now-30m", "to": "now"},
        "timezone": "browser",
        "templating": {"list": []},
        "annotations": {"list": []},
        "links": [{"type": "dashboards", "tags": ["recstream"], "title": "Recstream", "asDropdown": True}],
        "panels": placed,
    }


_ENDED = "sum by (status) (rate(requests_ended_total[$__rate_interval]))"

OVERVIEW = dashboard(
    "recstream-overview",
    "Overview",
    "Rate, errors and duration of what callers see, and whether every part is there.",
    [
        stat("Workers", "Workers that have reported on system.status lately.", "short", "max(workers_alive)"),
        stat("Requests", "HTTP requests a second, health and metrics aside.", "reqps",
             'sum(rate(http_requests_total{route!~"/health.*|/metrics"}[$__rate_interval]))'),
        stat("Server errors", "Share of answers with status 5xx, over five minutes.", "percentunit",
             "service:http_errors:ratio_rate5m", warn=0.01),
        stat("p99 to the result", "From accepting a request to its answer on the topic.", "s",
             "service:recommendation_end_to_end_seconds:p99_rate5m", warn=1),
        stat("Waiting", "Records that no worker has committed yet.", "short",
             'max(kafka_group_lag_records{topic="inference.requests"})', warn=1000),
        stat("Dead letters", "Records on all dead-letter topics.", "short",
             "sum(max by (topic) (kafka_dead_letter_records))", warn=1),
        lines("HTTP requests", "By route.", "reqps",
              ("sum by (route) (rate(http_requests_total[$__rate_interval]))", "{{route}}")),
        lines("HTTP answers by status", "4xx are the caller's, 5xx are ours.", "reqps",
              ("sum by (status) (rate(http_requests_total[$__rate_interval]))", "{{status}}")),
        lines("HTTP duration", "From the first byte of a request to the start of its answer; waits included.", "s",
              *quantiles("http_request_duration_seconds")),
        lines("Requests ended", "By how they ended.", "reqps", (_ENDED, "{{status}}")),
        lines("From accepted to answered", "Completed requests; the API, Kafka, the worker and Kafka again.", "s",
              *quantiles("recommendation_end_to_end_seconds")),
        lines("Outbox", "Accepted requests whose delivery to Kafka is not confirmed yet; beyond the limit: 503.",
              "short", ("max(outbox_backlog_rows)", "waiting"), ("max(outbox_limit_rows)", "limit")),
        lines("Up", "1 for each process that answers Prometheus.", "short", ("up", "{{job}} {{instance}}"), width=12),
        lines("Memory", "Resident memory of each process.", "bytes",
              ("process_resident_memory_bytes", "{{job}} {{instance}}"), width=12),
    ],
)  # fmt: skip

INFERENCE = dashboard(
    "recstream-inference",
    "Inference",
    "What workers do: speed, batches, fallbacks, and which model they serve.",
    [
        lines("Answers", "By status and source.", "reqps",
              ("sum by (status, source) (rate(worker_processed_total[$__rate_interval]))", "{{status}} {{source}}")),
        lines("Model time", "One batch through the model.", "s", *quantiles("worker_inference_latency_seconds")),
        lines("Time in the queue", "From a request's append to the topic to its batch's start.", "s",
              *quantiles("worker_queue_delay_seconds")),
        lines("Requests in a batch", "They grow by themselves under load.", "short", *quantiles("worker_batch_size")),
        lines("Errors", "Requests that could not be answered, by kind.", "reqps",
              ("sum by (type) (rate(worker_errors_total[$__rate_interval]))", "{{type}}")),
        lines("Fallbacks", "Requests answered by popularity, by why.", "reqps",
              ("sum by (reason) (rate(worker_fallbacks_total[$__rate_interval]))", "{{reason}}")),
        lines("Answers by worker", "How evenly the work is spread.", "reqps",
              ("sum by (instance) (rate(worker_processed_total[$__rate_interval]))", "{{instance}}")),
        lines("Model served", "Workers on each version; a change-over shows as two lines that cross.", "short",
              ("count by (model_version) (worker_model_info == 1)", "{{model_version}}")),
        lines("Reloads", "Announced models in the last hour, by what became of them.", "short",
              ("sum by (outcome) (increase(worker_model_reloads_total[1h]))", "{{outcome}}")),
        stat("Model's age", "Since the bundle in service was made.", "s",
             "time() - max(worker_model_trained_timestamp_seconds)", warn=14 * 86400),
        stat("NDCG@10", "Of the model in service, by the trainer's test.", "none",
             'max(worker_model_quality{metric="ndcg@10"})'),
        lines("CPU", "Cores used by each worker.", "short",
              ('rate(process_cpu_seconds_total{job="worker"}[$__rate_interval])', "{{instance}}"), width=16),
    ],
)  # fmt: skip

DRIFT = dashboard(
    "recstream-drift",
    "Data drift",
    "Whether traffic is still like the data that the model was made on.",
    [
        lines("Population stability index", "Latest answers against the model's own reference: below 0.1 stable, above "
              "0.25 shifted.", "none", ("feature:worker_drift_psi:max", "{{feature}}"), warn=0.25, width=12),
        lines("Answers compared", "How many answers the index is computed from; it begins at a tenth of the window.",
              "short", ("max by (feature) (worker_drift_window_requests)", "{{feature}}"), width=12),
        heatmap("History length", "Known items in a request's history.", "short", "worker_history_length"),
        heatmap("Best score", "The model's score of each first-ranked item.", "none", "worker_prediction_score"),
        lines("Unknown items", "Share of history items that the model's vocabulary does not hold.", "percentunit",
              ("service:worker_unknown_items:ratio_rate5m", "unknown"), warn=0.2, width=12),
        lines("Fallback share", "Share of answers that are popularity, not the model's.", "percentunit",
              ("service:worker_fallbacks:ratio_rate5m", "popularity"), warn=0.3, width=12),
    ],
)  # fmt: skip

KAFKA = dashboard(
    "recstream-kafka",
    "Kafka",
    "What waits, how fast it is worked off, and what was set aside.",
    [
        lines("Lag", "Records that the group has not committed; known also while nobody consumes.", "short",
              ("group_topic:kafka_group_lag_records:max", "{{group}} {{topic}}")),
        lines("Time to drain", "What waits, at the speed of the last minute.", "s",
              ("group_topic:kafka_group_drain_seconds:estimate", "{{group}} {{topic}}"), warn=300),
        lines("Committed", "Records a second.", "short",
              ("group_topic:kafka_group_committed_records:rate1m", "{{group}} {{topic}}")),
        lines("Appended", "Records a second.", "short",
              ("clamp_min(max by (topic) (delta(kafka_topic_end_records[1m]) / 60), 0)", "{{topic}}")),
        lines("Consumed", "Records a second by process, what is repeated included.", "short",
              ("sum by (job, topic) (rate(kafka_consumed_records_total[$__rate_interval]))", "{{job}} {{topic}}")),
        lines("Dead letters", "Records that lie on each topic's dead-letter topic.", "short",
              ("max by (topic) (kafka_dead_letter_records)", "{{topic}}"), warn=1),
        lines("Set aside", "Records set aside, by reason, in five minutes.", "short",
              ("sum by (topic, reason) (increase(kafka_dead_letters_total[5m]))", "{{topic}} {{reason}}")),
        lines("Breakers", "1 while a consumer has stopped at a run of nothing but bad records.", "short",
              ("max by (job) (kafka_breaker_open)", "{{job}}"), warn=1),
        lines("Relayed", "Requests that the relay had to publish: the first attempt was not confirmed.", "short",
              ("sum(increase(outbox_relayed_total[5m]))", "in five minutes")),
    ],
)  # fmt: skip

BUSINESS = dashboard(
    "recstream-business",
    "Business",
    "What people asked for and what they did. Numbers by day are in the marts (docs/marts.md).",
    [
        stat("Recommendations today", "Completed in the last 24 hours.", "short",
             'sum(increase(requests_ended_total{status="COMPLETED"}[24h]))'),
        stat("Not answered", "Share of requests in the last hour that failed or expired.", "percentunit",
             '(sum(increase(requests_ended_total{status=~"FAILED|EXPIRED"}[1h])) or vector(0))'
             " / clamp_min(sum(increase(requests_ended_total[1h])), 1)", warn=0.01),
        stat("Interactions today", "Stored in the last 24 hours.", "short",
             "sum(increase(db_writer_interactions_total[24h]))"),
        stat("From the model", "Share of answers that are not the popularity list.", "percentunit",
             "1 - service:worker_fallbacks:ratio_rate5m"),
        stat("Against popularity", "NDCG@10 of the model in service over the popularity list's.", "none",
             'max(worker_model_quality{metric="ndcg@10"}) / max(worker_model_quality{metric="popularity_ndcg@10"})'),
        stat("Marts' age", "Since dbt last brought the marts up to date.", "s",
             "time() - max(marts_last_success_timestamp_seconds)", warn=3 * 3600),
        lines("Recommendations", "Ended requests, by how.", "reqps", (_ENDED, "{{status}}"), width=12),
        lines("Interactions", "Stored, by what people did.", "cps",
              ("sum by (event_type) (rate(db_writer_interactions_total[$__rate_interval]))", "{{event_type}}"),
              width=12),
    ],
)  # fmt: skip

DASHBOARDS = {
    "overview": OVERVIEW,
    "inference": INFERENCE,
    "drift": DRIFT,
    "kafka": KAFKA,
    "business": BUSINESS,
}


def render(content: Json) -> str:
    """Return a dashboard's file."""
    return json.dumps(content, indent=2, ensure_ascii=False) + "\n"


if __name__ == "__main__":
    FOLDER.mkdir(exist_ok=True)
    for name, content in DASHBOARDS.items():
        (FOLDER / f"{name}.json").write_text(render(content), encoding="utf-8")
