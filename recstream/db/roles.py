"""The roles beside the services' own."""

import psycopg
from psycopg import sql

ANALYST = "analyst"
"""Reads the schema `marts` and nothing else; a migration makes it, without a password."""


def set_analyst_password(connection: psycopg.Connection, password: str) -> None:
    """Let the analyst log in with the password; the server is sent its SCRAM verifier only.

    Raises psycopg.errors.InsufficientPrivilege where the connection's role did not make the analyst's.
    """
    verifier = connection.pgconn.encrypt_password(password.encode(), ANALYST.encode(), b"scram-sha-256")
    connection.execute(
        sql.SQL("ALTER ROLE {} LOGIN PASSWORD {}").format(sql.Identifier(ANALYST), sql.Literal(verifier.decode()))
    )
