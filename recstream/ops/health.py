"""Liveness, readiness and metrics of a service that has no HTTP server of its own."""

import json
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

from prometheus_client import make_wsgi_app

Checks = Callable[[], Mapping[str, bool]]
"""Returns each readiness check by name; called for every probe, so it must not block."""


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a probe every second is not news."""


def health_body(checks: Mapping[str, bool]) -> tuple[bool, bytes]:
    """Return whether all checks hold, and the JSON body that says which do."""
    ready = all(checks.values())
    return ready, json.dumps({"status": "ready" if ready else "not ready", "checks": dict(checks)}).encode()


@contextmanager
def serve_health(host: str, port: int, checks: Checks) -> Iterator[int]:
    """Serve `/health/live`, `/health/ready` and `/metrics` on a thread; yield the port bound (0 asks for a free one).

    Raises OSError where the port is taken.
    """
    metrics: Callable[..., Iterable[bytes]] = make_wsgi_app()

    def app(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        match environ["PATH_INFO"]:
            case "/health/live":
                status, body = "200 OK", b'{"status": "live"}'
            case "/health/ready":
                ready, body = health_body(checks())
                status = "200 OK" if ready else "503 Service Unavailable"
            case "/metrics":
                return metrics(environ, start_response)
            case _:
                status, body = "404 Not Found", b'{"status": "not found"}'
        start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
        return [body]

    server = make_server(host, port, app, server_class=_Server, handler_class=_QuietHandler)
    thread = threading.Thread(target=server.serve_forever, name="health", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
