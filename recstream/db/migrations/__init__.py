"""Alembic migrations and the one call that applies them."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, text

from recstream.db.advisory_locks import MIGRATION


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the database to `revision`. Idempotent; concurrent calls take turns.

    Raises sqlalchemy.exc.OperationalError where PostgreSQL cannot be reached.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION})
        connection.commit()
        try:
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": MIGRATION})
            connection.commit()
