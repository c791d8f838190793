"""Charts. Colours come from the theme (`ui/.streamlit/config.toml`), so each chart suits light and dark."""

from collections.abc import Sequence

import altair as alt
import pandas as pd

from recstream.messages.inference import StageTimings
from ui.result_feed import Second

SCORES_HEIGHT = 220
STAGES_HEIGHT = 170
LIVE_HEIGHT = 230
_STAGES = ("queued", "waiting for the batch", "inference", "sending")


def scores_by_rank(titles: Sequence[str], scores: Sequence[float]) -> alt.Chart:
    """Return how the scores are distributed over the ranks; `titles` are shown on pointing at a bar."""
    table = pd.DataFrame({"rank": range(1, len(scores) + 1), "score": scores, "title": list(titles)})
    chart: alt.Chart = (
        alt.Chart(table, height=SCORES_HEIGHT)
        .mark_bar(cornerRadiusEnd=2)
        .encode(
            x=alt.X("rank:O", title="Rank", axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("score:Q", title="Score"),
            tooltip=[
                alt.Tooltip("rank:O", title="Rank"),
                alt.Tooltip("title:N", title="Title"),
                alt.Tooltip("score:Q", title="Score", format=".3f"),
            ],
        )
    )
    return chart


def stages(timings: StageTimings) -> alt.Chart:
    """Return where the time of one request went, from the topic of requests to the topic of results."""
    known = (timings.queued, timings.batch_wait, timings.inference)
    table = pd.DataFrame(
        {"stage": _STAGES, "ms": (*known, max(timings.total - sum(known), 0.0)), "order": range(len(_STAGES))}
    )
    chart: alt.Chart = (
        alt.Chart(table, height=STAGES_HEIGHT)
        .mark_bar(size=28)
        .encode(
            x=alt.X("ms:Q", title="Milliseconds", stack="zero"),
            color=alt.Color("stage:N", sort=list(_STAGES), legend=alt.Legend(orient="bottom", title=None, columns=2)),
            order="order:O",
            tooltip=[alt.Tooltip("stage:N", title="Stage"), alt.Tooltip("ms:Q", title="Milliseconds", format=".2f")],
        )
    )
    return chart


def rate(seconds: Sequence[Second], now: float, reach: int) -> alt.Chart:
    """Return results per second over the last `reach` seconds; a second without any is a zero, not a gap."""
    counts = {second.second: second.count for second in seconds}
    ages = range(-reach, 0)
    table = pd.DataFrame({"age": ages, "count": [counts.get(int(now) + age, 0) for age in ages]})
    chart: alt.Chart = (
        alt.Chart(table, height=LIVE_HEIGHT)
        .mark_bar(width=3)
        .encode(
            x=_age_axis(reach),
            y=alt.Y("count:Q", title="Results per second", axis=alt.Axis(tickMinStep=1, minExtent=36)),
            tooltip=[alt.Tooltip("age:Q", title="Seconds from now"), alt.Tooltip("count:Q", title="Results")],
        )
    )
    return chart


def latencies(seconds: Sequence[Second], now: float, reach: int) -> alt.Chart:
    """Return the median and the 95th percentile of each second's latencies."""
    rows = [
        (second.second - int(now), name, percentile(second.latencies, share))
        for second in seconds
        if second.latencies and -reach <= second.second - int(now) < 0
        for name, share in (("median", 0.5), ("95th percentile", 0.95))
    ]
    table = pd.DataFrame(rows, columns=["age", "which", "ms"])
    chart: alt.Chart = (
        alt.Chart(table, height=LIVE_HEIGHT)
        .mark_line(point=alt.OverlayMarkDef(size=18))
        .encode(
            x=_age_axis(reach),
            y=alt.Y("ms:Q", title="Milliseconds", axis=alt.Axis(minExtent=36)),
            color=alt.Color(
                "which:N",
                sort=["median", "95th percentile"],
                scale=alt.Scale(domain=["median", "95th percentile"]),
                legend=alt.Legend(orient="top", title=None),
            ),
            tooltip=[
                alt.Tooltip("age:Q", title="Seconds from now"),
                alt.Tooltip("which:N", title="Which"),
                alt.Tooltip("ms:Q", title="Milliseconds", format=".1f"),
            ],
        )
    )
    return chart


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value that `share` of the values do not exceed (nearest rank). `values` must not be empty."""
    ordered = sorted(values)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)]


def _age_axis(reach: int) -> alt.X:
    return alt.X(
        "age:Q",
        title="Seconds from now",
        scale=alt.Scale(domain=[-reach, 0], nice=False),
        axis=alt.Axis(tickCount=4, grid=False),
    )
