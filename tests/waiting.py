"""Waiting for a condition, with a bound."""

import time
from collections.abc import Callable
from typing import TypeVar

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
