"""`python -m admin COMMAND`: prepare the database and Kafka, look at and choose models, deal with dead letters."""

# Each command imports what it needs itself: every start of a stack waits for `migrate` and `topics`, and SQLAlchemy,
# Alembic and the Kafka client take a second of a core together.

import json
from typing import Annotated

import typer

from admin import dlq
from admin.failed import Failed

app = typer.Typer(no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
models = typer.Typer(no_args_is_help=True, help="The models that were made, and which one is live.")
app.add_typer(models, name="models")
app.add_typer(dlq.app, name="dlq")


@app.command()
def migrate() -> None:
    """Bring the database's tables to this version, make the coming months' partitions, let the analyst in."""
    import psycopg
    import sqlalchemy.exc

    from recstream.db.engine import connect, make_engine
    from recstream.db.migrations import NewerDatabase, upgrade
    from recstream.db.partitions import ensure_partitions
    from recstream.db.roles import set_analyst_password
    from recstream.db.settings import AnalystSettings, PostgresSettings
    from recstream.ops.clock import utc_now

    settings, analyst = PostgresSettings.load(), AnalystSettings.load()
    engine = make_engine(settings, "admin")
    state = "The database is up to date."
    try:
        try:
            upgrade(engine)
        except NewerDatabase as newer:
            # After a step back to an older release, which must start.
            state = f"The database is of a newer release (revision {newer}); it stays as it is."
        with connect(settings, "admin") as connection:
            connection.autocommit = True
            ensure_partitions(connection, utc_now())
            if analyst.password is not None:
                set_analyst_password(connection, analyst.password.get_secret_value())
    except (psycopg.OperationalError, sqlalchemy.exc.OperationalError) as error:
        raise Failed(f"PostgreSQL cannot be used: {_first_line(error)}") from error
    except (psycopg.errors.InsufficientPrivilege, sqlalchemy.exc.ProgrammingError) as error:
        raise Failed(f"The role {settings.user} may not do all that is needed: {error}") from error
    finally:
        engine.dispose()
    typer.echo(state)


@app.command()
def topics(
    replication_factor: Annotated[int, typer.Option(help="Copies of each new topic; 3 on a cluster.")] = 1,
) -> None:
    """Create the topics that are missing."""
    from confluent_kafka import KafkaException

    from recstream.kafka.admin import TopicMismatch, ensure_topics
    from recstream.kafka.settings import KafkaSettings
    from recstream.messages.topics import TOPICS

    try:
        created = ensure_topics(KafkaSettings.load(), TOPICS, replication_factor=replication_factor)
    except (KafkaException, TopicMismatch) as error:
        raise Failed(f"The topics cannot be made: {error}") from error
    typer.echo(f"Created {', '.join(sorted(created))}." if created else "All topics are there.")


@app.command()
def asyncapi() -> None:
    """Print the AsyncAPI document of all topics, as docs/asyncapi.json holds it."""
    from recstream.messages.asyncapi import asyncapi_document

    typer.echo(json.dumps(asyncapi_document(), indent=2))


@models.command("list")
def list_models() -> None:
    """Print every model: version, status, when it was made, its NDCG@10."""
    import psycopg

    from recstream.db.engine import connect
    from recstream.db.settings import PostgresSettings

    query = "SELECT version, status, created_at, metrics->>'ndcg@10' FROM ml_models ORDER BY created_at DESC"
    try:
        with connect(PostgresSettings.load(), "admin") as connection:
            rows = connection.execute(query).fetchall()
    except psycopg.OperationalError as error:
        raise Failed(f"PostgreSQL cannot be used: {_first_line(error)}") from error
    for version, status, created_at, ndcg in rows:
        typer.echo(f"{version}  {status:9}  {created_at:%Y-%m-%d %H:%M}  {ndcg or '-'}")


@models.command()
def promote(version: Annotated[str, typer.Argument(help="A version of `models list`.")]) -> None:
    """Make a recorded model live again and tell every worker."""
    import psycopg

    from recstream.db.engine import connect
    from recstream.db.settings import PostgresSettings
    from recstream.kafka.announcements import ModelPruned, UnknownModel, announce_recorded
    from recstream.kafka.settings import KafkaSettings
    from recstream.messages.control import AnnouncementReason

    kafka = KafkaSettings.load()
    try:
        with connect(PostgresSettings.load(), "admin") as connection:
            connection.autocommit = True
            announced = announce_recorded(
                connection, kafka, version, reason=AnnouncementReason.PROMOTED, service="admin"
            )
    except ModelPruned as error:
        raise Failed(f"The files of {error} were removed to make room; train anew.") from error
    except UnknownModel as error:
        raise Failed(f"There is no model {error}. `python -m admin models list` shows those there are.") from error
    except psycopg.OperationalError as error:
        raise Failed(f"PostgreSQL cannot be used: {_first_line(error)}") from error
    typer.echo(f"{announced.model_version} is live, generation {announced.generation}.")


def _first_line(error: Exception) -> str:
    return str(error).splitlines()[0]


def main() -> None:
    """Run the command; what an operator can mend ends in one sentence and exit status 1."""
    try:
        app()
    except Failed as failure:
        typer.echo(str(failure), err=True)
        raise SystemExit(1) from None


if __name__ == "__main__":
    main()
