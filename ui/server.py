"""The page as an ASGI application: Streamlit's own, with this project's health and metrics beside it."""

import asyncio
import importlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import streamlit as st
import structlog
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from recstream.ops.health import health_body
from ui import resources

log = structlog.get_logger()

_SCRIPT = Path(__file__).with_name("app.py")


def create_app() -> st.App:
    """Return the application. The feed of results follows from its start on, whether anyone visits or not."""
    return st.App(
        _SCRIPT,
        lifespan=_following,
        routes=[Route("/health/live", _live), Route("/health/ready", _ready), Route("/metrics", _metrics)],
        on_script_error=_on_script_error,
    )


@asynccontextmanager
async def _following(_app: st.App) -> AsyncIterator[dict[str, Any] | None]:
    feed = resources.result_feed()
    # The libraries of the charts take seconds to import; the first visitor shall not wait for them.
    imported = asyncio.create_task(asyncio.to_thread(importlib.import_module, "ui.views.recommend"))
    try:
        yield None
    finally:
        await imported
        await asyncio.to_thread(feed.close)
        resources.api().close()
        resources.prometheus().close()


async def _live(_request: Request) -> Response:
    return Response(b'{"status": "live"}', media_type="application/json")


async def _ready(_request: Request) -> Response:
    # Nothing else counts: with the API or Kafka away the page still says so.
    _, body = health_body({"page": True})
    return Response(body, media_type="application/json")


async def _metrics(_request: Request) -> Response:
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


def _on_script_error(error: Exception) -> bool:
    log.error("page.unexpected_error", exc_info=error)
    st.error("This page met an error of its own; the service's log has the details. Reloading may help.")
    return True
