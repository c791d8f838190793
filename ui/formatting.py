"""Values as people read them, and text that Markdown must not interpret."""

import re
from datetime import datetime

_PUNCTUATION = re.compile(r"([!-/:-@\[-`{-~])")
_SHORTCODE = re.compile(r":(?=\S)")
_ZERO_WIDTH_SPACE = "\u200b"


def plain(text: str) -> str:
    """Return Markdown that shows `text` as it is: no emphasis, link, HTML, formula, colour, icon or emoji of its own.

    Line breaks become spaces. A zero-width space after a colon keeps `:name:` from becoming a picture, which Streamlit
    does after Markdown's escapes are gone.
    """
    escaped = _PUNCTUATION.sub(r"\\\1", " ".join(text.split()))
    return _SHORTCODE.sub(f":{_ZERO_WIDTH_SPACE}", escaped)


def milliseconds(value: float) -> str:
    """Return a duration such as `6.7 ms` or `1.25 s`."""
    if value >= 1000:
        return f"{value / 1000:.2f} s"
    return f"{value:.0f} ms" if value >= 100 else f"{value:.1f} ms"


def count(number: int, singular: str, plural: str | None = None) -> str:
    """Return `1 item` or `1,234 items`."""
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def age(moment: datetime, now: datetime) -> str:
    """Return how long ago it was, in its largest unit: `3 minutes ago`."""
    seconds = max((now - moment).total_seconds(), 0.0)
    for name, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            return f"{count(int(seconds // length), name)} ago"
    return f"{count(int(seconds), 'second')} ago"


def clock_time(moment: datetime) -> str:
    """Return the time of day in UTC with milliseconds."""
    return moment.strftime("%H:%M:%S.") + f"{moment.microsecond // 1000:03d}"
