"""Which parts of the pipeline are down, said at the top of every page; the rest of the page goes on."""

import streamlit as st

from ui import resources
from ui.api_client import ApiError

_LOOK_SECONDS = 3
"""How often the parts are looked at, for all browsers together."""

_OF_THE_API = {
    "postgres": "The API cannot reach PostgreSQL: users, items and new requests are not available.",
    "backlog": "The API's backlog is full, because Kafka does not confirm: it takes no new requests for now.",
}


def show_parts_down() -> None:
    """Show a banner while a part is down; it goes by itself."""
    st.fragment(_banner, run_every=_LOOK_SECONDS)()


def _banner() -> None:
    down = parts_down()
    if down:
        st.warning("  \n".join(down), icon=":material/cloud_off:")


@st.cache_data(ttl=_LOOK_SECONDS, show_spinner=False)
def parts_down() -> list[str]:
    """Return a sentence for each part that is down."""
    sentences = []
    connected = resources.result_feed().connected
    if not connected:
        sentences.append(
            "Kafka cannot be reached: results do not arrive live. Answers are looked up at the API instead."
        )
    try:
        checks = resources.api().health().checks
        sentences += [
            _OF_THE_API.get(name, f"The API's check '{name}' fails.") for name, holds in checks.items() if not holds
        ]
        # Workers report over Kafka: without it nothing is known of them.
        if connected and not any(worker.alive for worker in resources.api().workers()):
            sentences.append("No worker is running: requests are accepted, and answered once one runs again.")
    except ApiError as error:
        sentences.append(f"{error} Users, items and new requests are not available.")
    return sentences
