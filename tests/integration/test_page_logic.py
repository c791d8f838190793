"""The page's scripts without a browser, against the real pipeline: what visits share, and what a request carries."""

import threading
from collections.abc import Iterator

import httpx
import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from tests.integration.conftest import ITEMS, Services
from tests.waiting import eventually
from ui import resources

pytestmark = pytest.mark.integration

SECONDS = 60


@pytest.fixture
def page(services: Services, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let this process serve the page."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", services.kafka.bootstrap_servers)
    monkeypatch.setenv("UI_API_URL", services.url)
    st.cache_resource.clear()
    yield
    resources.result_feed().close()
    resources.api().close()
    st.cache_resource.clear()


def _visit(view: str) -> AppTest:
    visit = AppTest.from_string(f"from ui.views import {view}\n{view}.page()", default_timeout=SECONDS).run()
    assert not visit.exception
    return visit


def _tails() -> int:
    return sum(thread.name == "tail-inference.results" for thread in threading.enumerate())


@pytest.mark.usefixtures("page")
def test_visits_share_one_consumer_and_see_the_same(services: Services) -> None:
    visits = [_visit("live"), _visit("live"), _visit("recommend")]
    assert _tails() == 1
    eventually(lambda: resources.result_feed().connected, what="the feed")
    answered = services.recommend({"history": ITEMS[:3]}).json()["request_id"]

    def shows(visit: AppTest) -> bool:
        return answered in list(visit.run().dataframe[0].value["Request"])

    eventually(lambda: all(shows(visit) for visit in visits[:2]), what="the result on both visits")
    assert _tails() == 1


@pytest.mark.usefixtures("page")
def test_a_pause_holds_what_is_shown(services: Services) -> None:
    visit = _visit("live")
    eventually(lambda: resources.result_feed().connected, what="the feed")
    visit.toggle(key="live-paused").set_value(True).run()
    before = list(visit.dataframe[0].value["Request"])
    answered = services.recommend({"history": ITEMS[:3]}).json()["request_id"]
    eventually(lambda: str(resources.result_feed().snapshot(1, 60).results[0].result.request_id) == answered)
    assert list(visit.run().dataframe[0].value["Request"]) == before
    visit.toggle(key="live-paused").set_value(False).run()
    assert answered in list(visit.dataframe[0].value["Request"])


@pytest.mark.usefixtures("page")
def test_the_slider_limits_the_history_of_a_request(services: Services) -> None:
    views = [{"user_id": "bert", "item_id": item, "event_type": "view"} for item in ITEMS[:4]]
    assert httpx.post(f"{services.url}/v1/interactions", json={"interactions": views}).status_code == 202
    stored = f"{services.url}/v1/users/bert/interactions"
    eventually(lambda: len(httpx.get(stored).json()["interactions"]) == 4, what="the interactions")
    visit = _visit("recommend")
    eventually(lambda: resources.result_feed().connected, what="the feed")
    visit.text_input(key="user-prefix").set_value("bert").run()
    visit.session_state["user"] = "bert"
    visit.run().slider(key="history-of-bert").set_value(2).run()
    next(button for button in visit.button if button.label == "Get Recommendations").click().run()
    assert not visit.exception
    asked = visit.session_state["asked"]
    seen = eventually(lambda: resources.result_feed().get(asked.request_id), what="the answer")
    assert seen is not None
    assert seen.result.history_length == 2
