"""Fixtures that several folders use: the real Kafka and PostgreSQL, on free ports, once a session."""

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
from psycopg import sql
from sqlalchemy import update

from launcher.infrastructure import LocalInfrastructure
from launcher.postgres import SUPERUSER
from recstream.db.engine import make_engine
from recstream.db.migrations import upgrade
from recstream.db.settings import PostgresSettings
from recstream.db.tables import installation
from recstream.kafka.admin import ensure_topics
from recstream.kafka.settings import KafkaSettings
from recstream.messages.topics import TOPICS

_TEMPLATE = "recstream_template"
_PREFIXES = (
    "KAFKA_", "POSTGRES_", "CHECKPOINTS_", "API_", "WORKER_", "CONSUMER_", "REDRIVE_", "DB_WRITER_", "TRAINER_", "UI_",
    "OTEL_", "LOG_",
)  # fmt: skip
_OLDEST_EPOCH = uuid.UUID("00000000-0000-7000-8000-000000000000")
"""Of every test's database: they share `system.control` with the running services, whose epoch must outrank theirs."""


@pytest.fixture(scope="session", autouse=True)
def _no_inherited_settings() -> Iterator[None]:
    """A developer's own variables must not steer the tests."""
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            if name.startswith(_PREFIXES):
                patch.delenv(name)
        yield


@pytest.fixture(scope="session")
def infrastructure(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalInfrastructure]:
    """Return a running broker and database server; nothing is in them."""
    with LocalInfrastructure(tmp_path_factory.mktemp("infrastructure")) as running:
        yield running


@pytest.fixture(scope="session")
def kafka(infrastructure: LocalInfrastructure) -> KafkaSettings:
    """Return the broker's settings, with every declared topic made."""
    settings = KafkaSettings(bootstrap_servers=infrastructure.bootstrap_servers)
    ensure_topics(settings, TOPICS)
    return settings


@pytest.fixture(scope="session")
def migrated_template(infrastructure: LocalInfrastructure) -> str:
    """Return the name of a migrated database that others are copied from."""
    with _superuser(infrastructure) as connection:
        connection.execute(sql.SQL("CREATE DATABASE {} OWNER sasrec").format(sql.Identifier(_TEMPLATE)))
    engine = make_engine(_settings(infrastructure, _TEMPLATE), "tests")
    upgrade(engine)
    with engine.begin() as connection:
        connection.execute(update(installation).values(epoch=_OLDEST_EPOCH))
    engine.dispose()
    return _TEMPLATE


@pytest.fixture
def database(infrastructure: LocalInfrastructure, migrated_template: str) -> Iterator[PostgresSettings]:
    """Return an empty, migrated database of this test alone."""
    with _database(infrastructure, migrated_template) as settings:
        yield settings


@pytest.fixture(scope="module")
def module_database(infrastructure: LocalInfrastructure, migrated_template: str) -> Iterator[PostgresSettings]:
    """Return an empty, migrated database that one module's tests share."""
    with _database(infrastructure, migrated_template) as settings:
        yield settings


@contextmanager
def _database(infrastructure: LocalInfrastructure, template: str) -> Iterator[PostgresSettings]:
    name = f"test_{uuid.uuid4().hex}"
    with _superuser(infrastructure) as connection:
        connection.execute(
            sql.SQL("CREATE DATABASE {} OWNER sasrec TEMPLATE {}").format(
                sql.Identifier(name), sql.Identifier(template)
            )
        )
    yield _settings(infrastructure, name)
    with _superuser(infrastructure) as connection:
        connection.execute(sql.SQL("DROP DATABASE {} WITH (FORCE)").format(sql.Identifier(name)))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Return the folder of public data sets beside the checkout; skips where there is none."""
    folder = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"the public data sets are not at {folder}: their licences forbid shipping them")
    return folder


def _settings(infrastructure: LocalInfrastructure, name: str) -> PostgresSettings:
    return PostgresSettings(
        port=infrastructure.ports.postgres,
        db=name,
        password=infrastructure.postgres.password_file.read_text(encoding="utf-8").strip(),
    )


def _superuser(infrastructure: LocalInfrastructure) -> psycopg.Connection:
    password = infrastructure.layout.secrets / "postgres_superuser_password"
    return psycopg.connect(
        host="127.0.0.1",
        port=infrastructure.ports.postgres,
        dbname="postgres",
        user=SUPERUSER,
        password=password.read_text(encoding="utf-8").strip(),
        autocommit=True,
    )
