"""Connections, made when asked for and never at import."""

import psycopg
from psycopg.conninfo import make_conninfo
from sqlalchemy import URL, Engine, create_engine
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from recstream.db.settings import PostgresSettings


def conninfo(settings: PostgresSettings, application: str) -> str:
    """Return a libpq connection string; `application` is what pg_stat_activity shows."""
    return make_conninfo(
        host=settings.host,
        port=settings.port,
        dbname=settings.db,
        user=settings.user,
        password=settings.password.get_secret_value(),
        connect_timeout=settings.connect_timeout,
        application_name=f"recstream-{application}",
        # A peer that vanished without a word is noticed in half a minute, not in the kernel's two hours.
        keepalives_idle=10,
        keepalives_interval=5,
        keepalives_count=3,
        options="-c timezone=UTC",
    )


def connect(settings: PostgresSettings, application: str) -> psycopg.Connection:
    """Open one connection. Raises psycopg.OperationalError where PostgreSQL cannot be reached."""
    return psycopg.connect(conninfo(settings, application))


def url(settings: PostgresSettings) -> URL:
    """Return SQLAlchemy's address of the database, for psycopg 3."""
    return URL.create(
        "postgresql+psycopg",
        username=settings.user,
        password=settings.password.get_secret_value(),
        host=settings.host,
        port=settings.port,
        database=settings.db,
    )


def _connect_args(settings: PostgresSettings, application: str) -> dict[str, object]:
    return {
        "connect_timeout": settings.connect_timeout,
        "application_name": f"recstream-{application}",
        "options": "-c timezone=UTC",
    }


def make_engine(settings: PostgresSettings, application: str) -> Engine:
    """Return a synchronous engine; connects on first use."""
    return create_engine(url(settings), pool_pre_ping=True, connect_args=_connect_args(settings, application))


def make_async_engine(settings: PostgresSettings, application: str, pool_size: int) -> AsyncEngine:
    """Return an asynchronous engine whose pool neither grows past `pool_size` nor waits longer than five seconds."""
    return create_async_engine(
        url(settings),
        pool_size=pool_size,
        max_overflow=0,
        pool_timeout=5,
        pool_pre_ping=True,
        connect_args=_connect_args(settings, application),
    )
