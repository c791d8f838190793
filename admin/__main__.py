"""`python -m admin COMMAND`: prepare the database and Kafka, look at and choose models."""

import json
from typing import Annotated

import psycopg
import sqlalchemy.exc
import typer
from confluent_kafka import KafkaException

from recstream.db.engine import connect, make_engine
from recstream.db.migrations import upgrade
from recstream.db.partitions import ensure_partitions
from recstream.db.settings import PostgresSettings
from recstream.kafka.admin import TopicMismatch, ensure_topics
from recstream.kafka.announcements import UnknownModel, announce_recorded
from recstream.kafka.settings import KafkaSettings
from recstream.messages.asyncapi import asyncapi_document
from recstream.messages.control import AnnouncementReason
from recstream.messages.topics import TOPICS
from recstream.ops.clock import utc_now

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
models = typer.Typer(no_args_is_help=True, help="The models that were made, and which one is live.")
app.add_typer(models, name="models")


@app.command()
def migrate() -> None:
    """Bring the database's tables to this version, and make the coming months' partitions."""
    settings = PostgresSettings.load()
    engine = make_engine(settings, "admin")
    try:
        upgrade(engine)
    finally:
        engine.dispose()
    with connect(settings, "admin") as connection:
        connection.autocommit = True
        ensure_partitions(connection, utc_now())
    typer.echo("The database is up to date.")


@app.command()
def topics(
    replication_factor: Annotated[int, typer.Option(help="Copies of each new topic; 3 on a cluster.")] = 1,
) -> None:
    """Create the topics that are missing."""
    created = ensure_topics(KafkaSettings.load(), TOPICS, replication_factor=replication_factor)
    typer.echo(f"Created {', '.join(sorted(created))}." if created else "All topics are there.")


@app.command()
def asyncapi() -> None:
    """Print the AsyncAPI document of all topics, as docs/asyncapi.json holds it."""
    typer.echo(json.dumps(asyncapi_document(), indent=2))


@models.command("list")
def list_models() -> None:
    """Print every model: version, status, when it was made, its NDCG@10."""
    with connect(PostgresSettings.load(), "admin") as connection:
        rows = connection.execute(
            "SELECT version, status, created_at, metrics->>'ndcg@10' FROM ml_models ORDER BY created_at DESC"
        ).fetchall()
    for version, status, created_at, ndcg in rows:
        typer.echo(f"{version}  {status:9}  {created_at:%Y-%m-%d %H:%M}  {ndcg or '-'}")


@models.command()
def promote(version: Annotated[str, typer.Argument(help="A version of `models list`.")]) -> None:
    """Make a recorded model live again and tell every worker."""
    with connect(PostgresSettings.load(), "admin") as connection:
        connection.autocommit = True
        announced = announce_recorded(
            connection, KafkaSettings.load(), version, reason=AnnouncementReason.PROMOTED, service="admin"
        )
    typer.echo(f"{announced.model_version} is live, generation {announced.generation}.")


def main() -> None:
    """Run the command; failures that an operator can cause end in one sentence and exit status 1."""
    try:
        app()
    except UnknownModel as error:
        _fail(f"There is no model {error}. `python -m admin models list` shows those there are.")
    except TopicMismatch as error:
        _fail(str(error))
    except (psycopg.OperationalError, sqlalchemy.exc.OperationalError) as error:
        _fail(f"PostgreSQL cannot be reached or refused: {str(error).splitlines()[0]}")
    except KafkaException as error:
        _fail(f"Kafka cannot be reached or refused: {error}")


def _fail(sentence: str) -> None:
    typer.echo(sentence, err=True)
    raise SystemExit(1)


if __name__ == "__main__":
    main()
