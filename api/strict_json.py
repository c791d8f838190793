"""Request bodies as strict JSON (RFC 8259): no NaN, no lone surrogates, no depth or digits without end."""

from collections.abc import Callable, Coroutine
from typing import Any

import msgspec
from fastapi import Request, Response
from fastapi.routing import APIRoute

from api.problems import Problem


class _StrictRequest(Request):
    async def json(self) -> Any:
        """Return the parsed body. Raises Problem (400) for anything that is not strict JSON."""
        try:
            return msgspec.json.decode(await self.body())
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise _MalformedBody from error


class _MalformedBody(Exception):
    """The body is not JSON; FastAPI turns it into its own 400, which the route below replaces."""


class StrictJSONRoute(APIRoute):
    """A route whose body is parsed by msgspec: the standard library takes NaN and breaks on hostile numbers."""

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """Wrap FastAPI's handler."""
        handler = super().get_route_handler()

        async def strict(request: Request) -> Response:
            try:
                return await handler(_StrictRequest(request.scope, request.receive))
            except Exception as error:
                if isinstance(error.__cause__, _MalformedBody):
                    raise Problem(400, "malformed-json", "The body is not valid JSON in UTF-8.") from error
                raise

        return strict
