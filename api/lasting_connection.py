"""A database connection of a task's own, outside the pool, that is opened again after the database was away."""

import psycopg


class LastingConnection:
    """One connection in autocommit, opened when first asked for and again after `close`; for one task at a time."""

    def __init__(self, conninfo: str) -> None:
        self._conninfo = conninfo
        self._connection: psycopg.AsyncConnection | None = None

    async def get(self) -> psycopg.AsyncConnection:
        """Return the connection. Raises psycopg.OperationalError where the database cannot be reached."""
        if self._connection is None:
            self._connection = await psycopg.AsyncConnection.connect(self._conninfo, autocommit=True)
        return self._connection

    async def close(self) -> None:
        """Close it, also because it may be broken."""
        if self._connection is not None:
            await self._connection.close()
            self._connection = None
