"""`python -m admin dlq`: dead letters, and sending them once more."""

# Imports what it needs inside the commands, like admin/__main__.py.

import base64
import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from admin.failed import Failed

if TYPE_CHECKING:
    import psycopg

    from recstream.kafka.dead_letters import DeadLetter
    from recstream.messages.topics import Topic

app = typer.Typer(no_args_is_help=True, help="Records that were set aside: list, show, send once more.")

_TopicOption = Annotated[str | None, typer.Option(help="Only of this topic, such as inference.requests.")]
_ReasonOption = Annotated[str | None, typer.Option(help="Only with this reason, such as malformed.")]
_SCANNED = 1_000


@app.command("list")
def list_letters(
    topic: _TopicOption = None,
    reason: _ReasonOption = None,
    limit: Annotated[int, typer.Option(min=1, max=_SCANNED, help="The latest so many of each topic.")] = 50,
) -> None:
    """Print the latest dead letters: id, when, reason, where from, how often sent once more, and whether it was."""
    with _kafka_and_postgres() as connection:
        from recstream.kafka.redrive import redriven_at

        letters = _find(topic, reason, limit)
        redriven = redriven_at(connection, letters)
    if not letters:
        typer.echo("There are no dead letters.")
        return
    for letter in letters:
        mark = f"sent once more {redriven[letter.id]:%Y-%m-%d %H:%M}" if letter.id in redriven else letter.detail[:60]
        typer.echo(
            f"{letter.id}  {letter.set_aside_at:%Y-%m-%d %H:%M:%S}  {letter.reason:15}  "
            f"from {letter.source_partition}:{letter.source_offset}  redrives {letter.redrives}  {mark}"
        )


@app.command()
def show(letter_id: Annotated[str, typer.Argument(metavar="ID", help="As `dlq list` prints it.")]) -> None:
    """Print one dead letter as JSON: why, where from, its headers, key and value."""
    with _kafka_and_postgres() as connection:
        from recstream.kafka.redrive import redriven_at

        letter = _one(letter_id)
        redriven = redriven_at(connection, [letter]).get(letter.id)
    typer.echo(
        json.dumps(
            {
                "id": str(letter.id),
                "reason": letter.reason,
                "detail": letter.detail,
                "service": letter.service,
                "topic": letter.source.name,
                "partition": letter.source_partition,
                "offset": letter.source_offset,
                "appended_at": letter.source_time.isoformat() if letter.source_time else None,
                "set_aside_at": letter.set_aside_at.isoformat(),
                "redrives": letter.redrives,
                "redriven_at": redriven.isoformat() if redriven else None,
                "headers": [{"name": name, **_bytes(value)} for name, value in letter.headers],
                "key": _bytes(letter.key),
                "value": _bytes(letter.value),
            },
            indent=2,
            ensure_ascii=False,
        )
    )


@app.command()
def redrive(
    letter_ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID]...", help="As `dlq list` prints them.")
    ] = None,
    everything: Annotated[
        bool, typer.Option("--all", help=f"All that were not sent yet, of the latest {_SCANNED} of each topic.")
    ] = False,
    topic: _TopicOption = None,
    reason: _ReasonOption = None,
) -> None:
    """Send dead letters to their topic once more; each only once, and no more a minute than is allowed."""
    if bool(letter_ids) == everything:
        raise Failed("Give either ids or --all.")
    with _kafka_and_postgres() as connection:
        from recstream.kafka.producer import ConfirmingProducer
        from recstream.kafka.redrive import NotRedrivable, RedriveSettings, TooManyRedrives, redriven_at
        from recstream.kafka.redrive import redrive as send
        from recstream.kafka.settings import KafkaSettings

        if everything:
            found = _find(topic, reason, _SCANNED)
            done = redriven_at(connection, found)
            letters = [letter for letter in reversed(found) if letter.id not in done]
        else:
            letters = [_one(letter_id) for letter_id in letter_ids or ()]
        producer = ConfirmingProducer(KafkaSettings.load().producer("admin-redrive", delivery_timeout_ms=10_000))
        settings = RedriveSettings.load()
        refused = 0
        for letter in letters:
            while True:
                try:
                    sent = send(connection, producer, letter, settings, service="admin")
                except TooManyRedrives:
                    typer.echo(f"{settings.per_minute} were sent within a minute; waiting ...", err=True)
                    time.sleep(5)
                except NotRedrivable as error:
                    refused += 1
                    typer.echo(f"{letter.id}  not sent: {error}")
                    break
                else:
                    what = "was sent before, at" if sent.repeated else f"sent to {letter.source.name} at"
                    typer.echo(f"{letter.id}  {what} {sent.at:%Y-%m-%d %H:%M:%S}")
                    break
    if everything and not letters:
        typer.echo("There is nothing to send.")
    if refused:
        raise Failed(f"{refused} of {len(letters)} were not sent.")


@contextmanager
def _kafka_and_postgres() -> "Iterator[psycopg.Connection]":
    """Yield a connection; what either server cannot do becomes a sentence."""
    import psycopg
    from confluent_kafka import KafkaException

    from recstream.db.engine import connect
    from recstream.db.settings import PostgresSettings

    try:
        with connect(PostgresSettings.load(), "admin") as connection:
            connection.autocommit = True
            yield connection
    except psycopg.OperationalError as error:
        raise Failed(f"PostgreSQL cannot be used: {str(error).splitlines()[0]}") from error
    except KafkaException as error:
        raise Failed(f"Kafka cannot be used: {error.args[0].str()}") from error


def _find(topic: str | None, reason: str | None, limit: int) -> "list[DeadLetter]":
    from recstream.kafka.dead_letters import SOURCES, list_letters
    from recstream.kafka.settings import KafkaSettings

    if topic is not None and topic not in SOURCES:
        raise Failed(f"{topic} has no dead letters. These have: {', '.join(SOURCES)}.")
    sources: list[Topic] = [SOURCES[topic]] if topic is not None else list(SOURCES.values())
    letters = list_letters(KafkaSettings.load(), sources, limit)
    return [letter for letter in letters if reason in (None, letter.reason)]


def _one(letter_id: str) -> "DeadLetter":
    from recstream.kafka.dead_letters import LetterId, UnknownLetter, find_letter
    from recstream.kafka.settings import KafkaSettings

    try:
        return find_letter(KafkaSettings.load(), LetterId.parse(letter_id))
    except UnknownLetter as error:
        raise Failed(f"There is no dead letter {letter_id}. `dlq list` shows those there are.") from error


def _bytes(value: bytes | None) -> dict[str, str | None]:
    """Return bytes as text, or as base64 where they are none."""
    if value is None:
        return {"text": None}
    try:
        return {"text": value.decode()}
    except UnicodeDecodeError:
        return {"base64": base64.b64encode(value).decode()}
