"""Live: the results that pass on `inference.results` now, for all browsers from one tail."""

from collections import Counter

import pandas as pd
import streamlit as st

from recstream.messages.inference import Source, Status
from ui import charts, resources
from ui.formatting import milliseconds
from ui.result_feed import Snapshot

_EVERY_SECONDS = 1.0
_ROWS = 100
_REACH = 60
_RATE_SECONDS = 10
_TABLE_HEIGHT = 420
_LINE_HEIGHT = 56
_HELD = "live-held"


def page() -> None:
    """Draw the page."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Results passing now", anchor=False, width="stretch")
        paused = st.toggle("Pause", key="live-paused", help="Hold what is shown; results are still counted.")
    if not paused:
        st.session_state.pop(_HELD, None)
    st.fragment(_stream, run_every=None if paused else _EVERY_SECONDS)(paused)


def _stream(paused: bool) -> None:
    snapshot: Snapshot | None = st.session_state.get(_HELD) if paused else None
    if snapshot is None:
        snapshot = resources.result_feed().snapshot(_ROWS, _REACH)
        st.session_state[_HELD] = snapshot
    _show_figures(snapshot)
    left, right = st.columns(2, gap="medium")
    with left:
        st.markdown("**Rate**")
        st.altair_chart(
            charts.rate(snapshot.seconds, snapshot.taken_at, _REACH), alt="Results per second over the last minute."
        )
    with right:
        st.markdown("**Latency, request topic to answer**")
        st.altair_chart(
            charts.latencies(snapshot.seconds, snapshot.taken_at, _REACH),
            alt="Median and 95th percentile by second over the last minute.",
        )
    _show_table(snapshot)


def _show_figures(snapshot: Snapshot) -> None:
    seconds = snapshot.seconds
    recent = [second for second in seconds if -_RATE_SECONDS <= second.second - int(snapshot.taken_at) < 0]
    latencies = [value for second in seconds for value in second.latencies]
    statuses: Counter[str] = sum((second.statuses for second in seconds), Counter())
    sources: Counter[str] = sum((second.sources for second in seconds), Counter())
    total = sum(second.count for second in seconds)
    fallbacks = sources[Source.POPULARITY]
    figures = (
        ("Per second", f"{sum(second.count for second in recent) / _RATE_SECONDS:.1f}", "Over ten seconds."),
        ("Last minute", f"{total:,}", "Results that passed."),
        ("Median", milliseconds(charts.percentile(latencies, 0.5)) if latencies else "-", "Latency, last minute."),
        (
            "95th percentile",
            milliseconds(charts.percentile(latencies, 0.95)) if latencies else "-",
            "Latency, last minute.",
        ),
        ("Fallback", f"{fallbacks / total:.0%}" if total else "-", "Share answered by popularity, last minute."),
        ("Not completed", f"{total - statuses[Status.COMPLETED]:,}", "Failed, expired or cancelled, last minute."),
    )
    with st.container(horizontal=True, gap="small", key="figures"):
        for name, value, explanation in figures:
            st.metric(name, value, help=explanation, border=True)
    versions: Counter[str] = sum((second.versions for second in seconds), Counter())
    newest = snapshot.results[0].result.model_version if snapshot.results else None
    shown = [newest, *(version for version in versions if version != newest)] if newest else list(versions)
    counts = " · ".join(f"{name} {number:,}" for name, number in (statuses + sources).most_common())
    with st.container(horizontal=True, vertical_alignment="center", height=_LINE_HEIGHT):
        st.markdown("Model " + (", ".join(f"`{version}`" for version in shown) if shown else "-"), width="content")
        st.markdown(f":gray[{counts}]", width="content")


def _show_table(snapshot: Snapshot) -> None:
    rows = [
        (
            seen.appended_at,
            str(seen.result.request_id),
            str(seen.result.status),
            str(seen.result.source or ""),
            len(seen.result.items),
            seen.result.history_length,
            seen.result.timings_ms.total if seen.result.timings_ms is not None else None,
            seen.result.model_version or "",
        )
        for seen in snapshot.results
    ]
    table = pd.DataFrame(
        rows, columns=["When", "Request", "Status", "Source", "Items", "History", "Latency", "Model version"]
    )
    st.dataframe(
        table,
        hide_index=True,
        height=_TABLE_HEIGHT,
        key="live-table",
        column_config={
            "When": st.column_config.DatetimeColumn(format="HH:mm:ss.SSS", timezone=st.context.timezone),
            "Latency": st.column_config.NumberColumn(format="%.1f ms"),
        },
        placeholder="-",
        alt="The latest results, newest first.",
    )
    if not rows:
        st.caption("Nothing has passed since this page's service started. Ask for recommendations, or ./run request.")
