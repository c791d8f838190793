"""What has to be done now and then: the coming months' partitions, what has expired."""

from collections.abc import Callable

import psycopg
import structlog

from recstream.db.partitions import ensure_partitions
from recstream.ops.clock import utc_now
from recstream.ops.periodic import Periodic

log = structlog.get_logger()

_FORGET_KEYS = "DELETE FROM idempotency_keys WHERE expires_at < now()"
# Dead letters are kept for fourteen days.
_FORGET_REDRIVES = "DELETE FROM redrives WHERE redriven_at < now() - interval '15 days'"


class Maintenance(Periodic):
    """Maintains at start and then every `interval_seconds`, on a connection of its own each time."""

    def __init__(self, connect: Callable[[], psycopg.Connection], interval_seconds: float) -> None:
        super().__init__("maintenance", lambda: _try_to_maintain(connect), interval_seconds)


def _try_to_maintain(connect: Callable[[], psycopg.Connection]) -> None:
    try:
        maintain(connect)
    except psycopg.Error as error:
        # The default partition takes what a missing month cannot, and the next round tries again.
        log.warning("maintenance.failed", error=str(error))


def maintain(connect: Callable[[], psycopg.Connection]) -> None:
    """Do one round. Idempotent."""
    with connect() as connection:
        connection.autocommit = True
        created = ensure_partitions(connection, utc_now())
        forgotten = connection.execute(_FORGET_KEYS).rowcount
        connection.execute(_FORGET_REDRIVES)
    if created or forgotten:
        log.info("maintenance.done", partitions_created=created, idempotency_keys_forgotten=forgotten)
