"""Alembic migrations and the one call that applies them."""

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, text

from recstream.db.advisory_locks import MIGRATION


class NewerDatabase(RuntimeError):
    """A later release has migrated the database. Migrations only add, so this one works with it as it is."""


def upgrade(engine: Engine, revision: str = "head") -> None:
    """Bring the database to `revision`. Idempotent; concurrent calls take turns.

    Raises:
        NewerDatabase: the database is at a revision that this release does not know; nothing was changed.
        sqlalchemy.exc.OperationalError: PostgreSQL cannot be reached.
    """
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    with engine.connect() as connection:
        connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": MIGRATION})
        connection.commit()
        try:
            current = MigrationContext.configure(connection).get_current_revision()
            known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
            connection.rollback()
            if current is not None and current not in known:
                raise NewerDatabase(current)
            config.attributes["connection"] = connection
            command.upgrade(config, revision)
        finally:
            connection.rollback()
            connection.execute(text("SELECT pg_advisory_unlock(:lock)"), {"lock": MIGRATION})
            connection.commit()
