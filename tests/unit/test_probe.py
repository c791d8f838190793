"""The health check of containers, against a real server."""

from collections.abc import Iterator

import pytest

from recstream.ops.health import serve_health
from recstream.ops.probe import answers


@pytest.fixture
def ready() -> list[bool]:
    return [True]


@pytest.fixture
def url(ready: list[bool]) -> Iterator[str]:
    with serve_health("127.0.0.1", 0, lambda: {"ready": ready[0]}) as port:
        yield f"http://127.0.0.1:{port}"


def test_it_tells_what_the_service_says(url: str, ready: list[bool]) -> None:
    assert answers(f"{url}/health/ready")
    ready[0] = False
    assert not answers(f"{url}/health/ready")
    assert answers(f"{url}/health/live")
    assert not answers(f"{url}/elsewhere")


def test_nobody_there_is_not_healthy() -> None:
    assert not answers("http://127.0.0.1:1/health/ready")


@pytest.mark.parametrize("url", ["127.0.0.1:8000/health", "https://127.0.0.1/", "http:///health"])
def test_another_address_is_an_error(url: str) -> None:
    with pytest.raises(ValueError, match="is not http"):
        answers(url)
