"""What the launcher asks the API of a running stack."""

from collections.abc import Sequence
from types import TracebackType
from typing import Any, Self

import httpx

from launcher.errors import LauncherError
from launcher.ports import LOOPBACK


class ApiClient:
    """The API at a port of this machine. Every failure is a `LauncherError` that says it in a sentence."""

    def __init__(self, port: int, timeout_s: float = 10.0) -> None:
        # A proxy of the environment is for other addresses than this machine's own.
        self._http = httpx.Client(base_url=f"http://{LOOPBACK}:{port}", timeout=timeout_s, trust_env=False)

    def __enter__(self) -> Self:
        """Return the client."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._http.close()

    def models(self) -> list[dict[str, Any]]:
        """Return the models: `version`, `kind`, `status`, `generation` and more, newest first."""
        models: list[dict[str, Any]] = self._get("/v1/models")["models"]
        return models

    def workers(self) -> list[dict[str, Any]]:
        """Return the workers: `worker_id`, `state`, `model_version` and more."""
        workers: list[dict[str, Any]] = self._get("/v1/workers")["workers"]
        return workers

    def items(self, ids: Sequence[str]) -> dict[str, dict[str, Any]]:
        """Return what is known of items, by id; unknown ids are left out."""
        if not ids:
            return {}
        return {item["item_id"]: item for item in self._get("/v1/items", ids=",".join(ids))["items"]}

    def recommend(self, body: dict[str, Any], wait_s: int) -> dict[str, Any]:
        """Post a request and return it, with its `result` if that came within `wait_s` seconds."""
        return self._send("POST", "/v1/recommendations", json=body, headers={"Prefer": f"wait={wait_s}"})

    def _get(self, path: str, **params: str) -> dict[str, Any]:
        return self._send("GET", path, params=params)

    def _send(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            response = self._http.request(method, path, **options)
        except httpx.TimeoutException:
            raise LauncherError(f"The API did not answer {method} {path} in time; see ./run logs api.") from None
        except httpx.TransportError as error:
            raise LauncherError(
                f"The API at {self._http.base_url} cannot be reached ({type(error).__name__}); see ./run status."
            ) from None
        if response.is_error:
            raise LauncherError(_problem(response))
        body: dict[str, Any] = response.json()
        return body


def _problem(response: httpx.Response) -> str:
    """Put an RFC 9457 answer into a sentence."""
    try:
        problem = response.json()
        places = "".join(f"\n  {': '.join(map(str, error.values()))}" for error in problem.get("errors") or [])
        return f"The API refused the request ({response.status_code} {problem['title']}): {problem['detail']}{places}"
    except (ValueError, KeyError, AttributeError):
        return f"The API answered {response.status_code} {response.reason_phrase}."
