"""Sending a dead letter to its topic once more: once each, never in a circle, never many at a time.

What was sent is a row of `redrives`, in whose transaction the record is produced. All who redrive share that table,
so the limits hold across replicas of the api and the operator's commands.
"""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

import psycopg
from pydantic import Field
from pydantic_settings import SettingsConfigDict

from recstream.db.advisory_locks import REDRIVE
from recstream.kafka.dead_letters import REDRIVES, DeadLetter, LetterId
from recstream.kafka.producer import ConfirmingProducer
from recstream.messages.topics import INFERENCE_REQUESTS
from recstream.ops.settings import ServiceSettings


class RedriveSettings(ServiceSettings):
    """`REDRIVE_MOST` and `REDRIVE_PER_MINUTE`: of the api and of `dlq redrive`."""

    model_config = SettingsConfigDict(env_prefix="REDRIVE_")

    most: int = Field(default=3, ge=1)
    """How often the same record may be sent once more, when it keeps coming back."""
    per_minute: int = Field(default=120, ge=1)
    """How many records may be sent once more within a minute, by all together."""


class NotRedrivable(RuntimeError):
    """Sending it once more would be of no use; the text says why, in a sentence."""


class TooManyRedrives(RuntimeError):
    """The limit for a minute is used up."""


@dataclass(frozen=True, slots=True)
class Redriven:
    """When a dead letter was sent once more; `repeated` where that was before this call, which then sent nothing."""

    at: datetime
    repeated: bool


def redrive(
    connection: psycopg.Connection,
    producer: ConfirmingProducer,
    letter: DeadLetter,
    settings: RedriveSettings,
    *,
    service: str,
) -> Redriven:
    """Send a dead letter to its topic once more, unless that was done before.

    The record gets its own key, value and headers, and `dlq_redrives`, which counts. `connection` must have no
    transaction open. When the process dies between the two, the record may be sent a second time: every reader of it
    is idempotent.

    Raises:
        NotRedrivable: it came back too often, or its request has ended meanwhile.
        TooManyRedrives: try again in a minute.
        KafkaException: the broker did not confirm; nothing is noted.
    """
    with connection.transaction():
        connection.execute("SELECT pg_advisory_xact_lock(%s)", (REDRIVE,))
        before = redriven_at(connection, [letter]).get(letter.id)
        if before is not None:
            return Redriven(before, repeated=True)
        if letter.redrives >= settings.most:
            raise NotRedrivable(f"It was sent once more {letter.redrives} times and came back each time.")
        _check_request(connection, letter)
        counted = connection.execute(
            "SELECT count(*) FROM redrives WHERE redriven_at > now() - interval '1 minute'"
        ).fetchone()
        assert counted is not None
        if counted[0] >= settings.per_minute:
            raise TooManyRedrives
        row = connection.execute(
            """
            INSERT INTO redrives (topic, letter_partition, letter_offset, set_aside_at, service)
            VALUES (%s, %s, %s, %s, %s) RETURNING redriven_at
            """,
            (letter.id.topic, letter.id.partition, letter.id.offset, letter.set_aside_at, service),
        ).fetchone()
        assert row is not None
        headers = [*letter.headers, (REDRIVES, str(letter.redrives + 1).encode())]
        producer.produce(letter.source.name, letter.key, letter.value, headers)
        producer.flush()
    at: datetime = row[0]
    return Redriven(at, repeated=False)


def redriven_at(connection: psycopg.Connection, letters: Sequence[DeadLetter]) -> dict[LetterId, datetime]:
    """Return when each of these was sent once more, for those that were."""
    # The time is part of the key: on a broker that was set up anew, offsets begin again.
    rows = connection.execute(
        """
        SELECT topic, letter_partition, letter_offset, redriven_at
        FROM redrives
        JOIN unnest(%s::text[], %s::int[], %s::bigint[], %s::timestamptz[])
            AS asked (topic, letter_partition, letter_offset, set_aside_at)
            USING (topic, letter_partition, letter_offset, set_aside_at)
        """,
        (
            [letter.id.topic for letter in letters],
            [letter.id.partition for letter in letters],
            [letter.id.offset for letter in letters],
            [letter.set_aside_at for letter in letters],
        ),
    ).fetchall()
    return {LetterId(topic, partition, offset): at for topic, partition, offset, at in rows}


def _check_request(connection: psycopg.Connection, letter: DeadLetter) -> None:
    """Refuse what has ended: the first end counts, so another answer to it would go nowhere."""
    if letter.source is not INFERENCE_REQUESTS:
        return
    try:
        request_id = uuid.UUID((letter.key or b"").decode("ascii"))
    except ValueError:
        return
    row = connection.execute("SELECT status FROM predictions WHERE request_id = %s", (request_id,)).fetchone()
    if row is not None and row[0] != "PENDING":
        raise NotRedrivable(f"Its request has ended as {row[0]}, for good; it would have to be made anew.")
