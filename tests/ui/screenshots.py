"""Takes the pictures of docs/images from a running stack: python -m tests.ui.screenshots [URL]."""

import sys
import time
from pathlib import Path

from playwright.sync_api import Page, expect

from launcher.layout import CHECKOUT
from tests.ui.browser import browser

FOLDER = CHECKOUT / "docs" / "images"
WIDE, NARROW = (1280, 860), (390, 844)
_SETTLED_MS, _LIVE_MS = 1_500, 10_000
"""Charts are drawn a moment after their data are there; nothing on the page says when."""


def ask(page: Page, url: str) -> float:
    """Choose the first user and ask; return the seconds from the click to the answer on the page."""
    page.goto(url)
    button = page.get_by_role("button", name="Get Recommendations")
    expect(button).to_be_enabled(timeout=30_000)
    started = time.perf_counter()
    button.click()
    expect(page.get_by_role("button", name="Like").first).to_be_visible(timeout=30_000)
    return time.perf_counter() - started


def main(url: str) -> None:
    """Write one picture a page, and Recommend also in the dark and on a telephone."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with browser() as chromium:
        for name, size, scheme in (
            ("recommend", WIDE, "light"), ("recommend-dark", WIDE, "dark"), ("recommend-narrow", NARROW, "light"),
        ):  # fmt: skip
            context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)  # type: ignore[arg-type]
            page = context.new_page()
            seconds = ask(page, url)
            print(f"{name}: {seconds:.2f} s from the click to the answer")
            _shoot(page, FOLDER / f"{name}.png")
            context.close()
        context = chromium.new_context(viewport={"width": WIDE[0], "height": WIDE[1]}, color_scheme="light")
        page = context.new_page()
        page.goto(url)
        links = page.get_by_test_id("stTopNavLink")
        expect(links.first).to_be_visible(timeout=30_000)
        for name in [text.split()[-1] for text in links.all_inner_texts()][1:]:
            links.filter(has_text=name).click()
            page.wait_for_timeout(_LIVE_MS)
            _shoot(page, FOLDER / f"{name.lower()}.png")


def _shoot(page: Page, file: Path) -> None:
    page.wait_for_timeout(_SETTLED_MS)
    page.screenshot(path=file)
    print(f"{file.name}: {file.stat().st_size // 1024} KiB")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "http://127.0.0.1:8501")
