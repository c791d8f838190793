"""Time as the messages and tables carry it: UTC, milliseconds since the epoch, RFC 3339."""

import time
from datetime import UTC, datetime, timedelta


def utc_now() -> datetime:
    """Return the current time, aware, in UTC."""
    return datetime.now(UTC)


def now_ms() -> int:
    """Return milliseconds since the Unix epoch, as Kafka's timestamps count."""
    return time.time_ns() // 1_000_000


def from_ms(timestamp_ms: int) -> datetime:
    """Return an aware UTC datetime for milliseconds since the Unix epoch."""
    return datetime.fromtimestamp(timestamp_ms / 1000, UTC)


def from_us(timestamp_us: int) -> datetime:
    """Return an aware UTC datetime for microseconds since the Unix epoch, exactly."""
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=timestamp_us)


def to_us(moment: datetime) -> int:
    """Return microseconds since the Unix epoch, exactly."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def to_rfc3339(moment: datetime) -> str:
    """Return RFC 3339 text with milliseconds and a `Z`, such as `2026-01-31T09:30:00.125Z`."""
    return moment.astimezone(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
