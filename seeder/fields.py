"""The text of a field as a value of its column; BadField says what is wrong with it."""

import math
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Generic, TypeVar

from recstream.messages.activity import EventType
from recstream.messages.identifiers import is_identifier

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
EARLIEST_US = (datetime(1900, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND
LATEST_US = (datetime(2100, 1, 1, tzinfo=UTC) - _EPOCH) // _MICROSECOND

MOST_REMEMBERED = 200_000
"""Distinct texts that a `Remembering` keeps before it starts afresh."""


Value = TypeVar("Value")


class BadField(ValueError):
    """One of few short texts, without the field's content, so that reasons can be counted."""


class TimeUnit(StrEnum):
    """What a number in the time column counts since 1970."""

    AUTO = "auto"
    SECONDS = "s"
    MILLISECONDS = "ms"
    MICROSECONDS = "us"
    NANOSECONDS = "ns"


class Remembering(dict[str, Value], Generic[Value]):
    """Remembers what `parse` made of a text: a column of ids or ratings repeats few of them many times."""

    def __init__(self, parse: Callable[[str], Value]) -> None:
        super().__init__()
        self._parse = parse

    def __missing__(self, text: str) -> Value:
        """Parse a text that is new; raises what `parse` raises and does not remember that."""
        value = self._parse(text)
        if len(self) >= MOST_REMEMBERED:
            self.clear()
        self[text] = value
        return value


def parse_user_id(text: str, prefix: str = "") -> str:
    """Return the id of a user, `prefix` before it. Raises BadField."""
    return _identifier(text, prefix, "user id")


def parse_item_id(text: str) -> str:
    """Return the id of an item. Raises BadField."""
    return _identifier(text, "", "item id")


def _identifier(text: str, prefix: str, what: str) -> str:
    text = text.strip()
    if not text:
        raise BadField(f"no {what}")
    if not is_identifier(prefix + text):
        raise BadField(f"bad {what}")
    return prefix + text


def parse_weight(text: str) -> float:
    """Return a finite number. Raises BadField."""
    number = _number(text)
    if number is None or not math.isfinite(number):
        raise BadField("bad weight")
    return number


def event_type_parser(others: Mapping[str, EventType]) -> Callable[[str], str]:
    """Return a parser of the event types' own names in any case, and of the texts in `others`."""
    names = {event_type.value: event_type.value for event_type in EventType}
    names |= {text.strip().lower(): event_type.value for text, event_type in others.items()}

    def parse(text: str) -> str:
        name = names.get(text.strip().lower())
        if name is None:
            raise BadField("unknown event type")
        return name

    return parse


def time_parser(unit: TimeUnit) -> Callable[[str], int]:
    """Return a parser of numbers since 1970 and of ISO 8601 texts, to microseconds since 1970.

    With AUTO a number's size decides: below 1e11 seconds (until the year 5138), below 1e14 milliseconds (from 1973 on),
    below 1e17 microseconds, else nanoseconds. A text without a time zone is in UTC. The parser raises BadField, also
    for times outside the years 1900 to 2099: those are mistakes in the unit.
    """
    fixed = None if unit is TimeUnit.AUTO else _FACTORS[unit]

    def parse(text: str) -> int:
        if text.isdigit() and text.isascii() and len(text) <= _MOST_DIGITS:
            whole = int(text)
            numerator, denominator = fixed or _factor_for(whole)
            moment = whole * numerator // denominator
        else:
            moment = _parse_slowly(text.strip(), fixed)
        if not EARLIEST_US <= moment < LATEST_US:
            raise BadField("time out of range")
        return moment

    return parse


def time_column_parser(unit: TimeUnit) -> Callable[[Sequence[str]], list[int]]:
    """Return what parses many texts as `time_parser` does one, in a third of the time where all are whole numbers."""
    parse = time_parser(unit)

    def parse_all(texts: Sequence[str]) -> list[int]:
        digits = "".join(texts)
        if digits.isdigit() and digits.isascii() and "" not in texts and max(map(len, texts)) <= _MOST_DIGITS:
            numbers = list(map(int, texts))
            least, most = min(numbers), max(numbers)
            factor = _FACTORS.get(unit) or _factor_for(least)
            if unit is not TimeUnit.AUTO or factor == _factor_for(most):
                numerator, denominator = factor
                if most * numerator // denominator < LATEST_US:
                    return [number * numerator // denominator for number in numbers]
        return list(map(parse, texts))

    return parse_all


_FACTORS = {
    TimeUnit.SECONDS: (1_000_000, 1),
    TimeUnit.MILLISECONDS: (1_000, 1),
    TimeUnit.MICROSECONDS: (1, 1),
    TimeUnit.NANOSECONDS: (1, 1_000),
}
"""To microseconds: times the first, divided by the second."""

_MOST_DIGITS = 20


def _factor_for(number: float) -> tuple[int, int]:
    size = abs(number)
    if size < 1e11:
        return _FACTORS[TimeUnit.SECONDS]
    if size < 1e14:
        return _FACTORS[TimeUnit.MILLISECONDS]
    if size < 1e17:
        return _FACTORS[TimeUnit.MICROSECONDS]
    return _FACTORS[TimeUnit.NANOSECONDS]


def _parse_slowly(text: str, fixed: tuple[int, int] | None) -> int:
    if not text:
        raise BadField("no time")
    number = _number(text)
    if number is not None:
        if not math.isfinite(number) or abs(number) >= 10.0**_MOST_DIGITS:
            raise BadField("time out of range")
        numerator, denominator = fixed or _factor_for(number)
        return round(number * numerator / denominator)
    try:
        moment = datetime.fromisoformat(text.removesuffix(" UTC"))
    except ValueError:
        raise BadField("bad time") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return (moment - _EPOCH) // _MICROSECOND


def _number(text: str) -> float | None:
    # float() also takes 1_000 and digits of other scripts, which no export means as numbers.
    if not text.isascii() or "_" in text:
        return None
    try:
        return float(text)
    except ValueError:
        return None
