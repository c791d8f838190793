"""A span for each HTTP request, by OpenTelemetry's semantic conventions for HTTP."""

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from recstream.ops.traceparent import valid_traceparent
from recstream.ops.tracing import Attributes, Tracer

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_NOT_TRACED = ("/health/", "/metrics")
"""Asked every few seconds by machines."""


class ServerSpans:
    """ASGI middleware around everything else: what is inside finds this span in the `traceparent` header."""

    def __init__(self, app: ASGIApp, tracer: Tracer) -> None:
        self._app = app
        self._tracer = tracer

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http" or scope["path"].startswith(_NOT_TRACED):
            await self._app(scope, receive, send)
            return
        given = [value for name, value in scope["headers"] if name == b"traceparent"]
        parent = valid_traceparent(given[0].decode("latin-1")) if len(given) == 1 else None
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        attributes: Attributes = {
            "http.request.method": method,
            "url.path": scope["path"],
            "url.scheme": scope["scheme"],
            "network.protocol.version": scope["http_version"],
        }
        span = self._tracer.start("HTTP" if method == "_OTHER" else method, "server", parent, attributes)
        others = [(name, value) for name, value in scope["headers"] if name not in (b"traceparent", b"tracestate")]
        own = span.traceparent
        assert own is not None
        scope["headers"] = [*others, (b"traceparent", own.encode())]
        status = 500

        async def observed_send(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, observed_send)
        finally:
            route = getattr(scope.get("route"), "path", None)
            if route is not None:
                span.rename(f"{method} {route}")
                span.set("http.route", route)
            span.set("http.response.status_code", status)
            span.end(str(status) if status >= 500 else None)
