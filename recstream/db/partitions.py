"""Monthly partitions of `predictions`, by the time inside the UUIDv7 key (RFC 9562, section 5.7)."""

import uuid
from datetime import UTC, datetime

import psycopg
from psycopg import sql


def lower_bound(moment: datetime) -> uuid.UUID:
    """Return the smallest UUID whose first 48 bits hold `moment` in milliseconds; later UUIDv7s are greater."""
    return uuid.UUID(int=int(moment.timestamp() * 1000) << 80)


def month_start(moment: datetime, offset: int = 0) -> datetime:
    """Return the first instant (UTC) of `moment`'s month, `offset` months later."""
    months = moment.year * 12 + moment.month - 1 + offset
    return datetime(months // 12, months % 12 + 1, 1, tzinfo=UTC)


def ensure_partitions(connection: psycopg.Connection, now: datetime, months_ahead: int = 2) -> list[str]:
    """Create the partitions from `now`'s month to `months_ahead` later, where missing; return the names created.

    Rows outside every month go to the default partition, so a missed call loses nothing; it only keeps those rows
    out of the cheap retention by month. Commits each partition by itself.
    """
    created = []
    for offset in range(months_ahead + 1):
        start, end = month_start(now, offset), month_start(now, offset + 1)
        name = f"predictions_{start:%Y%m}"
        with connection.transaction():
            # Replicas that start together take turns, for this transaction only.
            connection.execute("SELECT pg_advisory_xact_lock(hashtext('recstream.partitions'))")
            exists = connection.execute("SELECT to_regclass(%s)", (name,)).fetchone()
            if exists is not None and exists[0] is not None:
                continue
            connection.execute(
                sql.SQL("CREATE TABLE {} PARTITION OF predictions FOR VALUES FROM ({}) TO ({})").format(
                    sql.Identifier(name),
                    sql.Literal(str(lower_bound(start))),
                    sql.Literal(str(lower_bound(end))),
                )
            )
        created.append(name)
    return created
