"""Activity events to `interactions` and `users`."""

from collections import Counter
from collections.abc import Sequence

import psycopg

from recstream.messages.activity import InteractionRecorded
from recstream.ops import metrics

_INTERACTIONS = """
    INSERT INTO interactions (event_id, user_id, item_id, event_type, weight, created_at)
    SELECT * FROM unnest(
        %(event_ids)b::uuid[], %(users)b::text[], %(items)b::text[], %(types)b::text[], %(weights)b::float8[],
        %(times)b::timestamptz[]
    )
    ON CONFLICT (event_id) DO NOTHING
    RETURNING event_type
"""
# Sorted, so that two writers lock the rows in the same order and cannot deadlock.
_USERS = """
    INSERT INTO users (user_id, first_seen_at, last_seen_at)
    SELECT user_id, min(seen_at), max(seen_at)
    FROM unnest(%(users)b::text[], %(times)b::timestamptz[]) AS seen (user_id, seen_at)
    GROUP BY user_id
    ORDER BY user_id
    ON CONFLICT (user_id) DO UPDATE
    SET first_seen_at = least(users.first_seen_at, excluded.first_seen_at),
        last_seen_at = greatest(users.last_seen_at, excluded.last_seen_at)
    WHERE excluded.first_seen_at < users.first_seen_at OR excluded.last_seen_at > users.last_seen_at
"""


def record_interactions(connection: psycopg.Connection, events: Sequence[InteractionRecorded]) -> None:
    """Store interactions; an event that is there already changes nothing.

    Runs in the caller's transaction. Raises psycopg.DataError where an event cannot be stored.
    """
    if not events:
        return
    values = {
        "event_ids": [event.event_id for event in events],
        "users": [event.user_id for event in events],
        "items": [event.item_id for event in events],
        "types": [event.event_type.value for event in events],
        "weights": [event.weight for event in events],
        "times": [event.occurred_at for event in events],
    }
    cursor = connection.execute(_INTERACTIONS, values)
    metrics.ROWS_WRITTEN.labels("interactions").inc(cursor.rowcount)
    for event_type, count in Counter(row[0] for row in cursor).items():
        metrics.INTERACTIONS.labels(event_type).inc(count)
    connection.execute(_USERS, {"users": values["users"], "times": values["times"]})
