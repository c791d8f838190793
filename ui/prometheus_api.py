"""What the page asks of Prometheus, over its HTTP API."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import httpx
import msgspec
from msgspec import Struct

_READY_SECONDS = 1.0


class PrometheusError(Exception):
    """Prometheus did not answer the query; the text is a sentence to show. `reachable` tells whether it answered."""

    def __init__(self, sentence: str, reachable: bool) -> None:
        super().__init__(sentence)
        self.reachable = reachable


class Series(Struct, frozen=True):
    """One time series of an answer: its labels, and (Unix time in seconds, value) in the order of time.

    Values that are no number (a ratio of nothing to nothing) are left out.
    """

    labels: Mapping[str, str]
    points: list[tuple[float, float]]


class _Row(Struct, frozen=True):
    metric: dict[str, str]
    values: list[tuple[float, str]] = []
    value: tuple[float, str] | None = None


class _Data(Struct, frozen=True):
    result: list[_Row | float | str]


class _Answer(Struct, frozen=True):
    status: str
    error: str = ""
    data: _Data | None = None


class PrometheusClient:
    """Queries Prometheus; one for the whole process. Query methods raise PrometheusError."""

    def __init__(self, url: str, timeout_seconds: float) -> None:
        self.url = url
        # trust_env off: a proxy of the environment is for other addresses than the services' own.
        self._client = httpx.Client(
            base_url=url, timeout=httpx.Timeout(timeout_seconds, connect=min(timeout_seconds, 2.0)), trust_env=False
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def ready(self) -> bool:
        """Tell whether it answers queries."""
        try:
            return self._client.get("/-/ready", timeout=_READY_SECONDS).status_code == 200
        except (httpx.HTTPError, httpx.InvalidURL):
            return False

    def query(self, expression: str, at: float) -> list[Series]:
        """Return the value of each series at a time."""
        return self._ask("/api/v1/query", {"query": expression, "time": at})

    def query_range(self, expression: str, start: float, end: float, step: float) -> list[Series]:
        """Return the values of each series from `start` to `end`, every `step` seconds."""
        return self._ask("/api/v1/query_range", {"query": expression, "start": start, "end": end, "step": step})

    def _ask(self, path: str, form: dict[str, Any]) -> list[Series]:
        try:
            # POST, because an expression may be longer than an address.
            response = self._client.post(path, data=form)
        except httpx.TimeoutException as error:
            raise PrometheusError(f"Prometheus at {self.url} did not answer in time.", reachable=False) from error
        except (httpx.TransportError, httpx.InvalidURL) as error:
            raise PrometheusError(f"Prometheus at {self.url} cannot be reached.", reachable=False) from error
        try:
            answer = msgspec.json.decode(response.content, type=_Answer)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            raise PrometheusError(f"What answers at {self.url} is not Prometheus.", reachable=False) from error
        if answer.status != "success" or answer.data is None:
            raise PrometheusError(f"Prometheus refused the query: {answer.error}", reachable=True)
        return _series(answer.data.result)


def _series(result: Sequence[_Row | float | str]) -> list[Series]:
    rows = [row for row in result if isinstance(row, _Row)]
    if not rows and len(result) == 2:  # a scalar is its time and its value
        return [Series({}, _numbers([(float(result[0]), str(result[1]))]))]  # type: ignore[arg-type]
    return [Series(row.metric, _numbers(row.values if row.value is None else [row.value])) for row in rows]


def _numbers(points: Sequence[tuple[float, str]]) -> list[tuple[float, float]]:
    return [(moment, number) for moment, text in points if math.isfinite(number := float(text))]
