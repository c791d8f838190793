"""What all browsers of this process share, made once however many there are."""

import socket
from pathlib import Path

import streamlit as st

from recstream.kafka.settings import KafkaSettings
from recstream.model.settings import CheckpointSettings
from ui.api_client import ApiClient
from ui.prometheus_api import PrometheusClient
from ui.result_feed import ResultFeed
from ui.settings import UiSettings


@st.cache_resource(show_spinner=False)
def settings() -> UiSettings:
    """Return the settings of the environment."""
    return UiSettings()


@st.cache_resource(show_spinner=False)
def api() -> ApiClient:
    """Return the API's client."""
    return ApiClient(settings().api_url, settings().api_timeout_seconds)


@st.cache_resource(show_spinner=False)
def prometheus() -> PrometheusClient:
    """Return Prometheus's client."""
    return PrometheusClient(settings().prometheus_url, settings().prometheus_timeout_seconds)


@st.cache_resource(show_spinner=False)
def checkpoints() -> Path:
    """Return the folder of the bundles; it need not exist here."""
    return CheckpointSettings().dir


@st.cache_resource(show_spinner=False)
def result_feed() -> ResultFeed:
    """Return the feed of results, following."""
    # Every process tails all results, so each needs a name of its own.
    client_id = f"ui-{socket.gethostname()}-{settings().port}"
    feed = ResultFeed(KafkaSettings(), client_id, kept=settings().results_kept)
    feed.start()
    return feed
