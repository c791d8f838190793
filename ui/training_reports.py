"""The page that a training leaves beside its bundle, where this process can read the checkpoints."""

import streamlit as st

from recstream.model.manifest import FOLDER_NAME
from ui import resources

_REPORT = "report.html"
_LARGEST_BYTES = 5_000_000


@st.cache_data(ttl=60, max_entries=20, show_spinner=False)
def training_report(version: str) -> str | None:
    """Return the report, an HTML page that loads nothing from elsewhere; None where there is none to read."""
    if FOLDER_NAME.fullmatch(version) is None:
        return None
    path = resources.checkpoints() / version / _REPORT
    try:
        return path.read_text(encoding="utf-8") if path.stat().st_size <= _LARGEST_BYTES else None
    except (OSError, UnicodeDecodeError):
        return None
