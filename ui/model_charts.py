"""Charts of models: how good the versions are beside what is popular."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from ui.api_client import Model

_HEIGHT = 240
_OURS, _THEIRS = "SASRec", "popularity"


def quality_by_version(models: Sequence[Model], metric: str) -> alt.LayerChart:
    """Return a metric of each trained version, in the order they were made, beside popularity's on the same test."""
    rows = [
        (model.created_at, model.version, which, value, model.status)
        for model in models
        for which, value in ((_OURS, model.metrics.get(metric)), (_THEIRS, model.metrics.get(f"popularity_{metric}")))
        if value is not None
    ]
    table = pd.DataFrame(rows, columns=["made", "version", "which", "value", "status"])
    order = [model.version for model in sorted(models, key=lambda model: model.created_at)]
    base = alt.Chart(table, height=_HEIGHT).encode(
        x=alt.X(
            "version:N",
            sort=order,
            title="Versions, oldest first",
            axis=alt.Axis(labels=False, ticks=False),  # versions are long; pointing at one names it
        ),
        y=alt.Y("value:Q", title=metric_name(metric)),
        color=alt.Color(
            "which:N",
            sort=[_OURS, _THEIRS],
            scale=alt.Scale(domain=[_OURS, _THEIRS]),
            legend=alt.Legend(orient="top", title=None),
        ),
        tooltip=[
            alt.Tooltip("version:N", title="Version"),
            alt.Tooltip("made:T", title="Made", format="%d %b %Y, %H:%M"),
            alt.Tooltip("which:N", title="Which"),
            alt.Tooltip("value:Q", title=metric_name(metric), format=".4f"),
            alt.Tooltip("status:N", title="Status"),
        ],
    )
    chart: alt.LayerChart = base.mark_line() + base.mark_point(filled=True, size=70, opacity=1)
    return chart


def metric_name(metric: str) -> str:
    """Return a metric as it is written: `NDCG@10`."""
    name, at, cutoff = metric.partition("@")
    return (name.upper() if name in {"ndcg", "mrr"} else name.capitalize()) + at + cutoff
