"""Alembic's environment: always online, on the connection that `upgrade` (or a test) hands over."""

from alembic import context

from recstream.db.tables import metadata

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=metadata,
    compare_server_default=False,
    include_name=lambda name, kind, _parents: not (kind == "table" and (name or "").startswith("predictions_")),
)
with context.begin_transaction():
    context.run_migrations()
