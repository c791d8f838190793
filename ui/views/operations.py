"""Operations: how each part is and what waits, what was set aside, and the dashboards drawn from Prometheus."""

import pandas as pd
import streamlit as st

from recstream.ops.clock import now_ms
from ui import resources
from ui.api_client import ApiError
from ui.changeover import show_workers, workers_now
from ui.dashboards import Dashboard, read_dashboards
from ui.formatting import plain
from ui.health import GET_PROMETHEUS, parts, waiting
from ui.panels import Window, show_dashboard
from ui.set_aside import show_dead_letters

_LOOK_SECONDS = 3
_HEALTH, _LETTERS, _DASHBOARDS = "Health", "Dead letters", "Dashboards"
_WINDOWS = {
    "5 minutes": 300,
    "15 minutes": 900,
    "1 hour": 3_600,
    "6 hours": 21_600,
    "24 hours": 86_400,
    "7 days": 604_800,
}
_REFRESH = {"off": None, "5 s": 5, "15 s": 15, "1 min": 60}


def page() -> None:
    """Draw the page."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.subheader("Operations", anchor=False, width="stretch")
        shown = st.segmented_control(
            "What to show",
            [_HEALTH, _LETTERS, _DASHBOARDS],
            default=_HEALTH,
            required=True,
            label_visibility="collapsed",
            key="operations-shown",
            bind="query-params",
        )
    if shown == _LETTERS:
        show_dead_letters()
    elif shown == _DASHBOARDS:
        _show_dashboards()
    else:
        st.fragment(_show_health, run_every=_LOOK_SECONDS)()


def _show_health() -> None:
    with st.container(horizontal=True, gap="small", key="health"):
        for part in parts():
            icon, colour = part.state.value
            with st.container(border=True, gap="xxsmall"):
                st.markdown(f":{colour}[{icon}] **{part.name}**")
                st.caption(plain(part.words))
    left, right = st.columns(2, gap="large")
    with left:
        st.markdown("**Queues**")
        _show_waiting()
    with right:
        st.markdown("**Workers**")
        try:
            show_workers(workers_now())
        except ApiError as error:
            st.warning(f"The workers are not known: {plain(str(error))}", icon=":material/cloud_off:")


def _show_waiting() -> None:
    try:
        found = waiting()
    except ApiError as error:
        st.warning(f"What waits is not known: {plain(str(error))}", icon=":material/cloud_off:")
        return
    rows = [("Accepted, not confirmed by Kafka", "outbox", found.backlog)] if found.backlog is not None else []
    rows += [(queue.topic, f"waits for {queue.group}", queue.waiting) for queue in found.queues]
    rows += [(topic, "set aside", number) for topic, number in sorted(found.set_aside.items())]
    st.dataframe(
        pd.DataFrame(rows, columns=["What", "Where it waits", "Records"]),
        hide_index=True,
        key="waiting",
        column_config={"Records": st.column_config.NumberColumn(format="localized", width="small")},
        alt="Records that wait, by topic.",
    )


@st.cache_data(ttl=60, show_spinner=False)
def _dashboards() -> list[Dashboard]:
    return read_dashboards(resources.settings().dashboards_dir)


def _show_dashboards() -> None:
    dashboards = _dashboards()
    if not dashboards:
        st.info(
            f"There are no dashboards in {plain(str(resources.settings().dashboards_dir))}; `UI_DASHBOARDS_DIR` says "
            "where they are."
        )
        return
    with st.container(horizontal=True, vertical_alignment="bottom"):
        titles = [dashboard.title for dashboard in dashboards]
        title = st.selectbox("Dashboard", titles, key="dashboard", width=260)
        reach = st.selectbox("Time", list(_WINDOWS), index=1, key="dashboard-window", width=140)
        refresh = st.selectbox("Refresh", list(_REFRESH), index=2, key="dashboard-refresh", width=110)
    dashboard = next(dashboard for dashboard in dashboards if dashboard.title == title)
    if dashboard.description:
        st.caption(plain(dashboard.description))
    st.fragment(_show_panels, run_every=_REFRESH[refresh])(dashboard, _WINDOWS[reach])


def _show_panels(dashboard: Dashboard, seconds: int) -> None:
    if not resources.prometheus().ready():
        st.warning(
            f"Prometheus does not answer at {plain(resources.settings().prometheus_url)}. {GET_PROMETHEUS}",
            icon=":material/monitoring:",
        )
        return
    # The same moment for all browsers of the same few seconds, so that they share what is cached.
    step = Window(0, seconds).step(200)
    end = now_ms() / 1000 // step * step
    show_dashboard(dashboard, Window(end - seconds, end))
