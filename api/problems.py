"""Every error as problem details (RFC 9457): what went wrong, never a stack trace, never the input."""

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any

import msgspec
import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException

from recstream.ops.traceparent import trace_id_of, valid_traceparent

log = structlog.get_logger()

MEDIA_TYPE = "application/problem+json"


class Problem(Exception):
    """An error with an answer of its own; `slug` names its kind, stable for programs to match."""

    def __init__(self, status: int, slug: str, detail: str, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(detail)
        self.status = status
        self.slug = slug
        self.detail = detail
        self.headers = headers


def not_found(what: str) -> Problem:
    """Return the 404 for a thing that does not exist."""
    return Problem(404, "not-found", f"There is no such {what}.")


def unavailable(detail: str, retry_after_seconds: int = 1) -> Problem:
    """Return a 503 that says when to come back."""
    return Problem(503, "unavailable", detail, {"Retry-After": str(retry_after_seconds)})


def problem_response(
    status: int,
    slug: str,
    detail: str,
    headers: Mapping[str, str] | None = None,
    errors: list[dict[str, str]] | None = None,
) -> Response:
    """Return the answer for an error; `errors` points at the members of the request that are wrong."""
    body: dict[str, Any] = {
        "type": f"/problems/{slug}",
        "title": HTTPStatus(status).phrase,
        "status": status,
        "detail": detail,
    }
    if errors is not None:
        body["errors"] = errors
    return Response(msgspec.json.encode(body), status, dict(headers or {}), media_type=MEDIA_TYPE)


def install_problem_handlers(app: FastAPI) -> None:
    """Answer every exception of `app` with problem details."""
    app.add_exception_handler(Problem, _on_problem)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)
    app.add_exception_handler(Exception, _on_exception)


def _on_problem(_request: Request, error: Exception) -> Response:
    assert isinstance(error, Problem)
    return problem_response(error.status, error.slug, error.detail, error.headers)


def _on_validation_error(_request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = []
    for found in error.errors():
        location = list(found["loc"])
        if found["type"] == "extra_forbidden":
            location.pop()  # the member's name is the caller's text
        errors.append({"pointer": "/" + "/".join(str(part) for part in location), "detail": str(found["msg"])})
    return problem_response(422, "invalid-request", "The request does not have the documented form.", errors=errors)


def _on_http_exception(_request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    slug = HTTPStatus(error.status_code).phrase.lower().replace(" ", "-")
    return problem_response(error.status_code, slug, HTTPStatus(error.status_code).description or slug, error.headers)


def _on_exception(request: Request, error: Exception) -> Response:
    trace_id = trace_id_of(valid_traceparent(request.headers.get("traceparent")))
    log.error("http.unexpected_error", method=request.method, trace_id=trace_id, exc_info=error)
    return problem_response(500, "internal-error", "Something went wrong here; the log has the details.")
