"""Open event streams: how many there may be, and their end when the service stops."""

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

from api.problems import Problem
from recstream.ops import metrics


class Streams:
    """Counts streams up to a most, and tells all of them to end."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open = 0
        self._stopping: asyncio.Future[None] | None = None

    @property
    def stopping(self) -> "asyncio.Future[None]":
        """Done when streams shall end. Only on the event loop."""
        if self._stopping is None:
            self._stopping = asyncio.get_running_loop().create_future()
        return self._stopping

    def stop(self) -> None:
        """Tell every stream to end, also those that are opened from now on."""
        if not self.stopping.done():
            self.stopping.set_result(None)

    @contextmanager
    def slot(self) -> Iterator[None]:
        """Hold a place while a stream is open. Raises Problem (503) where all are taken."""
        if self._open >= self._most:
            detail = f"{self._most} event streams are open already; ask with GET meanwhile."
            raise Problem(503, "too-many-streams", detail, {"Retry-After": "5"})
        self._open += 1
        metrics.STREAMS_OPEN.set(self._open)
        try:
            yield
        finally:
            self._open -= 1
            metrics.STREAMS_OPEN.set(self._open)
