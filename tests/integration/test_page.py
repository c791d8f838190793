"""What a person does on the page, in a real browser, against the real pipeline."""

import re
import subprocess
from collections.abc import Iterator

import httpx
import pytest
from playwright.sync_api import Browser, Page, expect

from launcher.marts import dbt_command, dbt_env
from launcher.ports import free_ports
from launcher.service_env import ui_env
from tests.integration.conftest import ITEMS, Process, Services, make_sasrec
from tests.ui.browser import browser, needs_chromium
from tests.waiting import answers, eventually

pytestmark = [pytest.mark.integration, needs_chromium]

USER = "anna"
BOUND_MS = 30_000


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as launched:
        yield launched


@pytest.fixture(scope="module")
def page_url(services: Services) -> Iterator[str]:
    """Serve the page, with a user and titles to be found."""
    for item_id in ITEMS[:40]:
        httpx.put(f"{services.url}/v1/items/{item_id}", json={"title": f"Film {item_id} *<b>*", "genres": ["Drama"]})
    seen = [{"user_id": USER, "item_id": item_id, "event_type": "view"} for item_id in ITEMS[:5]]
    assert httpx.post(f"{services.url}/v1/interactions", json={"interactions": seen}).status_code == 202
    stored = f"{services.url}/v1/users/{USER}/interactions"
    eventually(lambda: len(httpx.get(stored).json()["interactions"]) == len(seen), what="the interactions")
    [port] = free_ports(1)
    process = _start(services, port)
    yield f"http://127.0.0.1:{port}"
    process.terminate()


def _start(services: Services, port: int, api: str | None = None, login: bool = True) -> Process:
    """Start the page as the launcher does: it reads the database as the analyst."""
    environment = ui_env(services.env, services.infrastructure.layout)
    if not login:
        del environment["POSTGRES_PASSWORD_FILE"]
    process = services.start("ui", "ui", environment | {"UI_PORT": str(port), "UI_API_URL": api or services.url})
    eventually(lambda: answers(f"http://127.0.0.1:{port}/health/ready"), what="the page")
    return process


@pytest.fixture
def page(chromium: Browser, page_url: str) -> Iterator[Page]:
    """Return the page as it opens, in a context of its own."""
    context = chromium.new_context(viewport={"width": 1280, "height": 900})
    opened = context.new_page()
    opened.set_default_timeout(BOUND_MS)
    expect.set_options(timeout=BOUND_MS)
    opened.goto(page_url)
    yield opened
    context.close()


def _choose(page: Page, user: str) -> None:
    box = page.get_by_placeholder("Id begins with")
    box.fill(user)
    box.press("Enter")
    page.locator("label").filter(has_text=re.compile(f"^{user}$")).click()
    expect(page.get_by_role("heading", name=f"For {user}")).to_be_visible()


def _ask(page: Page) -> None:
    page.get_by_role("button", name="Get Recommendations").click()
    expect(page.get_by_text(re.compile("Answered in"))).to_be_visible()


def _no_trace(page: Page) -> None:
    expect(page.get_by_test_id("stException")).to_have_count(0)


def test_a_user_is_chosen_and_gets_recommendations(page: Page, services: Services) -> None:
    _choose(page, USER)
    _ask(page)
    expect(page.get_by_text("live from inference.results")).to_be_visible()
    expect(page.get_by_role("button", name="Like")).to_have_count(10)
    version = next(iter(services.workers().values()))["model_version"]
    expect(page.get_by_text(str(version))).to_be_visible()
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
    _no_trace(page)

    # After a reload the address still shows the same answer.
    assert "request" in page.url
    page.reload()
    expect(page.get_by_role("button", name="Like")).to_have_count(10)


def test_what_is_not_liked_is_gone_from_the_next_answer(page: Page) -> None:
    _choose(page, USER)
    _ask(page)
    first = page.get_by_text(re.compile(r"· id \d+")).first.inner_text()
    page.get_by_role("button", name="Not for me").first.click()
    expect(page.get_by_text("What you said counts from the next request on.")).to_be_visible()
    before = page.url
    page.get_by_role("button", name="Get Recommendations").click()
    expect(page).not_to_have_url(before)
    expect(page.get_by_text(re.compile("Answered in"))).to_be_visible()
    expect(page.get_by_text(first, exact=True)).to_have_count(0)
    _no_trace(page)


def test_a_typed_history_is_answered(page: Page) -> None:
    page.get_by_text("Manual input").click()
    page.get_by_placeholder("10, 20, 30").fill("11, 12")
    page.get_by_placeholder("10, 20, 30").press("Control+Enter")
    expect(page.get_by_role("heading", name="For a history of your own")).to_be_visible()
    _ask(page)
    expect(page.get_by_role("button", name="Like")).to_have_count(10)


def test_bad_input_is_explained(page: Page) -> None:
    page.get_by_text("Manual input").click()
    page.get_by_placeholder("10, 20, 30").fill("10, a b/c")
    page.get_by_placeholder("10, 20, 30").press("Control+Enter")
    expect(page.get_by_test_id("stAlert").first).to_be_visible()
    expect(page.get_by_role("button", name="Get Recommendations")).to_be_disabled()
    _no_trace(page)


def test_two_browsers_see_the_same_stream(page: Page, chromium: Browser, page_url: str, services: Services) -> None:
    other = chromium.new_page()
    for each in (page, other):
        each.goto(f"{page_url}/live")
        expect(each.get_by_role("heading", name="Results passing now")).to_be_visible()
    assert services.recommend({"history": ITEMS[:3]}).status_code == 200
    for each in (page, other):
        count = each.get_by_test_id("stMetric").filter(has_text="Last minute").get_by_test_id("stMetricValue")
        expect(count).not_to_have_text("0")
        _no_trace(each)
    other.close()


def test_a_new_model_is_seen_without_a_reload(page: Page, page_url: str, services: Services) -> None:
    page.goto(f"{page_url}/models")
    announced = services.announce(make_sasrec(services.checkpoints, seed=77), {"ndcg@10": 0.5})
    services.await_version(announced.model_version)
    expect(page.get_by_text(announced.model_version).first).to_be_visible()
    _no_trace(page)


def test_without_the_api_the_page_says_so(chromium: Browser, services: Services) -> None:
    port, nowhere = free_ports(2)
    process = _start(services, port, f"http://127.0.0.1:{nowhere}", login=False)
    try:
        page = chromium.new_page()
        page.goto(f"http://127.0.0.1:{port}")
        expect(page.get_by_test_id("stAlert").filter(has_text="API").first).to_be_visible(timeout=BOUND_MS)
        _no_trace(page)
        # What needs only Kafka goes on.
        page.goto(f"http://127.0.0.1:{port}/live")
        expect(page.get_by_role("heading", name="Results passing now")).to_be_visible(timeout=BOUND_MS)
        assert services.recommend({"history": ITEMS[:3]}).status_code == 200
        count = page.get_by_test_id("stMetric").filter(has_text="Last minute").get_by_test_id("stMetricValue")
        expect(count).not_to_have_text("0", timeout=BOUND_MS)
        # Without a login for the database either, Analytics says what it lacks.
        page.goto(f"http://127.0.0.1:{port}/analytics")
        expect(page.get_by_text("has no password for it")).to_be_visible(timeout=BOUND_MS)
        _no_trace(page)
        page.close()
    finally:
        process.terminate()


def test_operations_tell_how_each_part_is_and_draw_nothing_without_prometheus(page: Page, page_url: str) -> None:
    page.goto(f"{page_url}/operations")
    for part in ("API", "PostgreSQL", "Kafka", "Workers", "db_writer", "Prometheus"):
        expect(page.get_by_text(part, exact=True).first).to_be_visible()
    page.get_by_text("Dead letters", exact=True).click()
    _no_trace(page)
    page.get_by_text("Dashboards", exact=True).click()
    expect(page.get_by_text("Prometheus does not answer")).to_be_visible()
    _no_trace(page)


def test_analytics_show_the_marts_and_give_them_away(page: Page, page_url: str, services: Services) -> None:
    environment = dbt_env(services.env, services.infrastructure.layout)
    built = subprocess.run(dbt_command("once"), env=environment, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout[-3000:]
    page.goto(f"{page_url}/analytics")
    expect(page.get_by_test_id("stVegaLiteChart").first).to_be_visible()
    with page.expect_download() as downloading:
        page.get_by_test_id("stDownloadButton").get_by_role("button").click()
    header, *rows = downloading.value.path().read_text().splitlines()
    assert header.startswith("report_date,")
    assert rows
    for subject in ("Models", "Click-through", "Items", "Sessions", "Retention"):
        page.get_by_text(subject, exact=True).last.click()
        expect(page.get_by_text(re.compile("As a table|There is nothing in these days")).first).to_be_visible()
        _no_trace(page)
