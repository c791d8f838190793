"""Waiting for a condition, with a bound, and the condition that a service answers."""

import time
from collections.abc import Callable
from typing import TypeVar

import httpx

T = TypeVar("T")


def eventually(look: Callable[[], T], what: str = "the condition", *, within: float = 60) -> T:
    """Return the first truthy result of `look`; fail where none comes within so many seconds."""
    deadline = time.monotonic() + within
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come about within {within} s; last seen: {found!r}")
        time.sleep(0.05)


def answers(url: str) -> bool:
    """Tell whether a GET is answered with 200."""
    try:
        return httpx.get(url).status_code == 200
    except httpx.TransportError:
        return False
