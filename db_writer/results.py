"""Results to `predictions`: the first record of a request in log order ends its row, for good."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import psycopg
from msgspec import Struct

from recstream.messages.identifiers import request_time_ms
from recstream.messages.inference import InferenceResult, Status
from recstream.ops import metrics


class EndedRequest(Struct, frozen=True):
    """A result as it came: `body` is the record's own JSON, `completed_at` its append time."""

    result: InferenceResult
    body: str
    completed_at: datetime


# PENDING in the WHERE is what makes a repeated or later result harmless. The bounds let PostgreSQL skip the partitions
# in which no id of the batch can lie.
_END = """
    WITH ended AS (
        SELECT * FROM unnest(
            %(ids)b::uuid[], %(statuses)b::text[], %(bodies)b::text[], %(versions)b::text[], %(times)b::timestamptz[],
            %(errors)b::text[]
        ) AS ended (request_id, status, body, model_version, completed_at, error_type)
    )
    UPDATE predictions
    SET status = ended.status, result_json = ended.body::jsonb, model_version = ended.model_version,
        completed_at = ended.completed_at, error_type = ended.error_type
    FROM ended
    WHERE predictions.request_id = ended.request_id AND predictions.status = 'PENDING'
        AND predictions.request_id BETWEEN %(lowest)b::uuid AND %(highest)b::uuid
    RETURNING predictions.request_id, predictions.status
"""
_KNOWN = "SELECT request_id FROM predictions WHERE request_id = ANY(%b::uuid[])"


def end_requests(connection: psycopg.Connection, ended: Sequence[EndedRequest]) -> set[UUID]:
    """Write what ended each request, in log order; return the ids that no row has.

    Runs in the caller's transaction. Raises psycopg.DataError where a result cannot be stored.
    """
    first: dict[UUID, EndedRequest] = {}
    for candidate in ended:
        first.setdefault(candidate.result.request_id, candidate)
    if not first:
        return set()
    results = list(first.values())
    rows = connection.execute(
        _END,
        {
            "ids": list(first),
            "statuses": [entry.result.status.value.upper() for entry in results],
            "bodies": [entry.body for entry in results],
            "versions": [entry.result.model_version for entry in results],
            "times": [entry.completed_at for entry in results],
            "errors": [entry.result.error.type if entry.result.error is not None else None for entry in results],
            "lowest": min(first),
            "highest": max(first),
        },
    ).fetchall()
    metrics.ROWS_WRITTEN.labels("predictions").inc(len(rows))
    for status, count in Counter(status for _, status in rows).items():
        metrics.ENDED.labels(status).inc(count)
    for entry in (first[row[0]] for row in rows):
        if entry.result.status is Status.COMPLETED:
            seconds = entry.completed_at.timestamp() - request_time_ms(entry.result.request_id) / 1000
            metrics.END_TO_END_LATENCY.observe(max(0.0, seconds))  # the API's clock and the broker's may differ
    untouched = first.keys() - {row[0] for row in rows}
    if not untouched:
        return set()
    return untouched - {row[0] for row in connection.execute(_KNOWN, (list(untouched),))}
