"""Liveness, readiness and metrics."""

import asyncio

import psycopg
from fastapi import APIRouter, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest
from sqlalchemy import text
from sqlalchemy.exc import SQLAlchemyError

from api.services import Services
from recstream.ops.health import health_body

router = APIRouter(tags=["health"])

_PROBE_SECONDS = 2.0


@router.get("/health/live", response_model=None)
async def live() -> dict[str, str]:
    """Tell that the process answers."""
    return {"status": "live"}


@router.get("/health/ready", responses={503: {"description": "Not ready."}}, response_model=None)
async def ready(services: Services) -> Response:
    """Tell whether requests can be accepted. While Kafka is away they can, as long as the backlog has room."""
    ok, body = health_body({"postgres": await _postgres(services), "backlog": services.outbox.has_room})
    return Response(body, 200 if ok else 503, media_type="application/json")


@router.get("/metrics", response_model=None)
async def metrics() -> Response:
    """Return the metrics in Prometheus' text format."""
    return Response(generate_latest(), media_type=CONTENT_TYPE_LATEST)


async def _postgres(services: Services) -> bool:
    try:
        async with asyncio.timeout(_PROBE_SECONDS), services.engine.connect() as connection:
            await connection.execute(text("SELECT 1"))
    except (SQLAlchemyError, psycopg.Error, TimeoutError):
        return False
    return True
