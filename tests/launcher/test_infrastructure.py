"""The real broker and the real database server, as the launcher starts them."""

import os
import stat
import subprocess
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg
import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient
from confluent_kafka.admin._config import ConfigResource
from confluent_kafka.admin._resource import ResourceType
from confluent_kafka.cimpl import NewTopic

from launcher.infrastructure import LocalInfrastructure

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalInfrastructure]:
    """Return an infrastructure of these tests' own, because they stop and kill it."""
    with LocalInfrastructure(tmp_path_factory.mktemp("own")) as running:
        yield running


def new_topic(own: LocalInfrastructure) -> str:
    topic = f"test.{uuid.uuid4().hex}"
    admin = AdminClient({"bootstrap.servers": own.bootstrap_servers})
    admin.create_topics([NewTopic(topic, 1, 1)])[topic].result(20)
    return topic


def produce(own: LocalInfrastructure, topic: str, value: bytes) -> None:
    errors: list[object] = []
    producer = Producer({"bootstrap.servers": own.bootstrap_servers, "acks": "all"})
    producer.produce(topic, value, on_delivery=lambda error, message: errors.append(error))
    assert producer.flush(20) == 0
    assert errors == [None]


def read_first(own: LocalInfrastructure, topic: str) -> bytes | str | None:
    consumer = Consumer({"bootstrap.servers": own.bootstrap_servers, "group.id": "test", "enable.auto.commit": False})
    try:
        consumer.assign([TopicPartition(topic, 0, 0)])
        message = consumer.poll(20)
        assert message is not None
        assert message.error() is None
        return message.value()
    finally:
        consumer.close()


def connect(own: LocalInfrastructure, password: str | None = None) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host="127.0.0.1",
        port=own.ports.postgres,
        user="sasrec",
        dbname="sasrec",
        password=password or own.postgres.password_file.read_text().strip(),
        autocommit=True,
    )


def test_records_survive_a_restart_and_a_crash_of_the_broker(own: LocalInfrastructure) -> None:
    topic = new_topic(own)
    produce(own, topic, b"first")
    own.kafka.stop()
    own.kafka.start()
    assert read_first(own, topic) == b"first"
    own.kafka.kill()
    own.kafka.start()
    assert read_first(own, topic) == b"first"


def test_rows_survive_a_restart_and_a_crash_of_the_database(own: LocalInfrastructure) -> None:
    with connect(own) as connection:
        connection.execute("CREATE TABLE kept AS SELECT 42 AS answer")
    own.postgres.stop()
    own.postgres.start()
    with connect(own) as connection:
        connection.execute("UPDATE kept SET answer = answer + 1")
    own.postgres.kill()
    own.postgres.start()
    with connect(own) as connection:
        assert connection.execute("SELECT answer FROM kept").fetchone() == (43,)


def test_a_pid_file_of_another_process_does_not_keep_the_database_from_starting(own: LocalInfrastructure) -> None:
    own.postgres.stop()
    service = own.postgres.service
    assert service is not None
    pid_file = Path(service.spec.command[2]) / "postmaster.pid"
    account = service.spec.account
    # Of the same account, or PostgreSQL itself would see that it is none of its own.
    with subprocess.Popen(
        ["sleep", "60"],
        cwd="/",
        user=account.uid if account else None,
        group=account.gid if account else None,
        extra_groups=[] if account else None,
    ) as other:
        pid_file.write_text(f"{other.pid}\n{pid_file.parent}\n1\n{own.ports.postgres}\n\n127.0.0.1\n1 1\nready\n")
        own.postgres.start()
        assert other.poll() is None
        other.kill()
    with connect(own) as connection:
        assert connection.execute("SELECT 1").fetchone() == (1,)


def test_the_database_asks_for_a_password_that_only_this_user_can_read(own: LocalInfrastructure) -> None:
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        connect(own, password="guessed")
    for file in (own.postgres.password_file, own.postgres.analyst_password_file):
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
    # It makes the analyst's role, by a migration, and may give nobody more than it has.
    attributes = "rolsuper, rolcreatedb, rolreplication, rolbypassrls, rolcreaterole"
    with connect(own) as connection:
        row = connection.execute(f"SELECT {attributes} FROM pg_roles WHERE rolname = current_user".encode()).fetchone()
        assert row == (False, False, False, False, True)
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            connection.execute("CREATE ROLE mighty SUPERUSER")


def test_the_database_is_set_up_for_the_services(own: LocalInfrastructure) -> None:
    with connect(own) as connection:
        shown = [connection.execute(f"SHOW {name}").fetchone() for name in ("timezone", "synchronous_commit")]
    assert shown == [("UTC",), ("on",)]


def test_both_listen_on_the_loopback_address_alone(own: LocalInfrastructure) -> None:
    for server in (own.kafka.service, own.postgres.service):
        assert server is not None
        listening = {
            connection.laddr.ip.removeprefix("::ffff:")
            for connection in psutil.Process(server.pid).net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN and connection.laddr
        }
        assert listening == {"127.0.0.1"}


@pytest.mark.skipif(os.geteuid() != 0, reason="only root's PostgreSQL needs another account")
def test_roots_database_runs_as_an_unprivileged_account(own: LocalInfrastructure) -> None:
    assert own.postgres.service is not None
    assert psutil.Process(own.postgres.service.pid).uids().effective != 0


def test_the_broker_takes_over_from_dead_members_soon_and_makes_no_topics_by_itself(own: LocalInfrastructure) -> None:
    resource = ConfigResource(ResourceType.BROKER, "1")
    admin = AdminClient({"bootstrap.servers": own.bootstrap_servers})
    settings = {name: entry.value for name, entry in admin.describe_configs([resource])[resource].result(20).items()}
    assert settings["group.consumer.session.timeout.ms"] == "6000"
    assert settings["group.coordinator.append.linger.ms"] == "0"
    assert settings["auto.create.topics.enable"] == "false"
