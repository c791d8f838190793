"""Services on a Kafka and a PostgreSQL of their own: what these tests break, no other test sees."""

from collections.abc import Iterator

import psycopg
import pytest

from launcher.infrastructure import LocalInfrastructure
from recstream.kafka.admin import ensure_topics
from recstream.kafka.settings import KafkaSettings
from recstream.messages.topics import TOPICS
from tests.integration.conftest import Services, running_services

SETTINGS = {
    # Short, so that a case waits for a condition and not for a period.
    "DB_WRITER_EXPIRY_INTERVAL_SECONDS": "0.2",
    "DB_WRITER_EXPIRY_GRACE_SECONDS": "0.5",
    "API_STREAM_HEARTBEAT_SECONDS": "0.2",
    "API_MAX_STREAMS": "20",
}


@pytest.fixture(scope="session")
def services(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Services]:
    """Return api, db_writer and one worker, running, with a SASRec bundle loaded."""
    with LocalInfrastructure(tmp_path_factory.mktemp("faults")) as infrastructure:
        kafka = KafkaSettings(bootstrap_servers=infrastructure.bootstrap_servers)
        ensure_topics(kafka, TOPICS)
        with running_services(infrastructure, kafka, SETTINGS) as running:
            yield running


@pytest.fixture
def postgres(services: Services) -> Iterator[psycopg.Connection]:
    """Return a connection to the services' database; every statement commits."""
    with services.connect() as connection:
        connection.autocommit = True
        yield connection
