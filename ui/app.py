"""The page's entry: what every page shares, and which pages there are. Streamlit runs this file for every visit."""

from pathlib import Path

import streamlit as st

from ui.parts import show_parts_down
from ui.views import analytics, live, models, operations, recommend

_HERE = Path(__file__).parent

# An icon of our own: Streamlit's named ones are fetched from elsewhere.
st.set_page_config(page_title="Recstream", page_icon=str(_HERE / "icon.svg"), layout="wide")
st.logo(_HERE / "logo.svg", size="large")
st.html(_HERE / "style.css")
chosen = st.navigation(
    [
        st.Page(recommend.page, title="Recommend", icon=":material/recommend:", default=True),
        st.Page(live.page, title="Live", icon=":material/stream:", url_path="live"),
        st.Page(models.page, title="Models", icon=":material/neurology:", url_path="models"),
        st.Page(operations.page, title="Operations", icon=":material/monitor_heart:", url_path="operations"),
        st.Page(analytics.page, title="Analytics", icon=":material/bar_chart:", url_path="analytics"),
    ],
    position="top",
)
show_parts_down()
chosen.run()
