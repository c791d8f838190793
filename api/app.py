"""The FastAPI application: routes, middleware and error answers put together."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import psycopg
import sqlalchemy.exc
import structlog
from fastapi import FastAPI, Request, Response

from api.body_limit import BodyLimit
from api.instrumentation import Instrumentation
from api.problems import install_problem_handlers, problem_response
from api.routes import catalogue, dead_letters, events, health, interactions, models, recommendations, users
from api.schemas import ProblemDetails
from api.server_spans import ServerSpans
from api.services import ApiServices, running
from recstream.ops.traceparent import trace_id_of, valid_traceparent

log = structlog.get_logger()

_DESCRIPTION = """
Next-item recommendations. POST a request, then either wait for its result in the same call
(`Prefer: wait=5`) or follow the `Location` of the 202. Errors are problem details (RFC 9457).
"""


def create_app(services: ApiServices) -> FastAPI:
    """Return the application over `services`, which its lifespan starts and stops."""

    @asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        async with running(services):
            yield

    app = FastAPI(
        title="Recstream",
        version="1",
        description=_DESCRIPTION,
        lifespan=lifespan,
        # The api's own spans (server_spans.py) go on in Kafka's records; FastAPI would make a second set.
        telemetry={"tracing": False, "metrics": False, "logs": False, "auto_configure": False},
        responses={code: {"model": ProblemDetails, "content": {"application/problem+json": {}}} for code in (422, 503)},
    )
    app.state.services = services
    install_problem_handlers(app)
    for kind in (sqlalchemy.exc.OperationalError, sqlalchemy.exc.TimeoutError, psycopg.OperationalError):
        app.add_exception_handler(kind, _on_database_away)
    for module in (recommendations, events, interactions, users, catalogue, models, dead_letters, health):
        app.include_router(module.router)
    app.add_middleware(BodyLimit, max_bytes=services.settings.max_body_bytes)
    app.add_middleware(Instrumentation)
    if services.tracer.on:
        app.add_middleware(ServerSpans, tracer=services.tracer)
    return app


def _on_database_away(request: Request, error: Exception) -> Response:
    trace_id = trace_id_of(valid_traceparent(request.headers.get("traceparent")))
    log.warning("http.database_away", error=str(error).splitlines()[0], trace_id=trace_id)
    return problem_response(503, "unavailable", "The database cannot be reached.", {"Retry-After": "1"})
