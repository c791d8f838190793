"""A real Apache Kafka broker on this machine: KRaft, one node, loopback only."""

import base64
import hashlib
import os
import shutil
import socket
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient

from launcher import jars
from launcher.errors import LauncherError
from launcher.java import Java, find_java
from launcher.ports import LOOPBACK
from launcher.service import Service, ServiceSpec

# Serial collection and the first compiler alone: on two cores the broker is ready in 2.5 s instead of 3.5 s and uses
# half the CPU of the defaults in its first minutes, at the same throughput and latency once warm (docs/launcher.md).
JVM_OPTIONS = ("-Xms128m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-XX:+ExitOnOutOfMemoryError")


class KafkaServer:
    """One broker that is its own controller, with its data in a folder.

    Survives the end of its process at any moment; after a power loss the last records may be missing, because a
    single node has no replica (so it is with every Kafka of replication factor 1).
    """

    def __init__(self, data: Path, log: Path, cache: Path, port: int, controller_port: int) -> None:
        """Describe the broker; nothing starts yet.

        Args:
            data: its folder, made by `prepare`.
            log: the file that its output is appended to.
            cache: where jars go if the user has no Maven repository, and start-up archives always.
            port: for clients.
            controller_port: for the controller, which only the broker itself calls.
        """
        self.data = data
        self.log = log
        self.cache = cache
        self.port = port
        self.controller_port = controller_port
        self.service: Service | None = None

    @property
    def bootstrap_servers(self) -> str:
        """What clients connect to."""
        return f"{LOOPBACK}:{self.port}"

    def prepare(self, progress: Callable[[int, int], None] = lambda done, total: None) -> ServiceSpec:
        """Fetch the jars that are missing, write the configuration, format the storage once; return how to start.

        Raises:
            LauncherError: where jars cannot be had or the storage cannot be formatted.
        """
        java = find_java()
        class_path = jars.fetch(jars.repository(self.cache / "maven"), progress)
        self.data.mkdir(parents=True, exist_ok=True)
        properties = self.data / "server.properties"
        properties.write_text(self._properties(self.data / "log"), encoding="utf-8")
        if not (self.data / "log" / "meta.properties").exists():
            self._format(java, class_path)
        archive = self._archive(java, class_path)
        unfinished = self.data / "archive.unfinished"

        def keep_archive() -> None:
            # Java writes the archive while it exits; only a whole one may get the name that later starts look for.
            if unfinished.exists():
                moved = archive.with_name(f"{archive.name}.{uuid.uuid4().hex}")
                shutil.move(unfinished, moved)
                moved.replace(archive)

        return ServiceSpec(
            name="kafka",
            command=_java_command(
                java, class_path, _archive_options(java, archive, unfinished), "kafka.Kafka", str(properties)
            ),
            env=_environment(),
            cwd=self.data,
            log=self.log,
            port=self.port,
            ready=self.is_ready,
            starting=lambda: unfinished.unlink(missing_ok=True),
            stopped=keep_archive,
            grace_s=30,
        )

    def start(self) -> None:
        """Prepare if need be, start, and return when the broker answers."""
        if self.service is None:
            self.service = Service(self.prepare())
        self.service.start()
        self.service.wait_ready()

    def stop(self) -> None:
        """Stop in order; the data stays."""
        if self.service is not None:
            self.service.stop()

    def kill(self) -> None:
        """End the process as a crash would, with SIGKILL."""
        if self.service is not None:
            self.service.kill()

    def remove(self) -> None:
        """Delete the data of a stopped broker."""
        shutil.rmtree(self.data, ignore_errors=True)

    def is_ready(self) -> bool:
        """Tell whether the broker answers a metadata request."""
        try:
            socket.create_connection((LOOPBACK, self.port), timeout=1).close()
            client = AdminClient({"bootstrap.servers": self.bootstrap_servers, "log_level": 0})
            return bool(client.list_topics(timeout=5).brokers)
        except (OSError, KafkaException):
            return False

    def _format(self, java: Java, class_path: list[Path]) -> None:
        # Formatted under another name and then renamed, so that an interruption leaves nothing half formatted.
        unfinished = self.data / "log.unfinished"
        shutil.rmtree(unfinished, ignore_errors=True)
        properties = self.data / "format.properties"
        properties.write_text(self._properties(unfinished), encoding="utf-8")
        command = _java_command(
            java, class_path, (), "kafka.tools.StorageTool", "format", f"--cluster-id={_cluster_id()}",
            "-c", str(properties),
        )  # fmt: skip
        # In a session of its own: a Ctrl-C in the terminal is for the launcher, which then stops in order.
        run = subprocess.run(
            command, env=_environment(), capture_output=True, text=True, cwd=self.data, start_new_session=True
        )
        if run.returncode != 0:
            reason = (run.stderr or run.stdout).strip().splitlines()[-1:]
            raise LauncherError(f"Kafka's storage in {self.data} could not be formatted: {''.join(reason)}")
        unfinished.replace(self.data / "log")
        properties.unlink()

    def _properties(self, log_dir: Path) -> str:
        settings = {
            "process.roles": "broker,controller",
            "node.id": 1,
            "controller.quorum.voters": f"1@{LOOPBACK}:{self.controller_port}",
            "listeners": f"PLAINTEXT://{LOOPBACK}:{self.port},CONTROLLER://{LOOPBACK}:{self.controller_port}",
            "advertised.listeners": f"PLAINTEXT://{self.bootstrap_servers}",
            "controller.listener.names": "CONTROLLER",
            "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
            "log.dirs": log_dir,
            "auto.create.topics.enable": "false",
            # After a crash the controller refuses the broker until its old session has ended: 3 s, not 9 s.
            "broker.session.timeout.ms": 3000,
            "broker.heartbeat.interval.ms": 1000,
            # One node: each internal topic has one replica, and few partitions make the first group join fast.
            "offsets.topic.replication.factor": 1,
            "offsets.topic.num.partitions": 4,
            "transaction.state.log.replication.factor": 1,
            "transaction.state.log.min.isr": 1,
            "transaction.state.log.num.partitions": 4,
            "share.coordinator.state.topic.replication.factor": 1,
            "share.coordinator.state.topic.min.isr": 1,
            "share.coordinator.state.topic.num.partitions": 4,
            "group.initial.rebalance.delay.ms": 0,
            # A commit is answered at once instead of after 5 ms in which others might have joined it.
            "group.coordinator.append.linger.ms": 0,
            # A dead worker's partitions are taken over after 6 s; KIP-848's default (and minimum) is 45 s.
            "group.consumer.session.timeout.ms": 6000,
            "group.consumer.min.session.timeout.ms": 6000,
            "group.consumer.heartbeat.interval.ms": 2000,
            "group.consumer.min.heartbeat.interval.ms": 2000,
        }
        return "".join(f"{name}={value}\n" for name, value in settings.items())

    def _archive(self, java: Java, class_path: list[Path]) -> Path:
        """Return where the start-up archive for this Java, these jars and these options lies (Java checks them too)."""
        self.cache.mkdir(parents=True, exist_ok=True)
        parts = [str(java.executable.resolve()), java.version, *JVM_OPTIONS, *map(str, class_path)]
        return self.cache / f"kafka-{hashlib.sha256(chr(0).join(parts).encode()).hexdigest()[:16]}.jsa"


def _java_command(
    java: Java, class_path: list[Path], options: tuple[str, ...], main: str, *arguments: str
) -> tuple[str, ...]:
    quiet = ("--enable-native-access=ALL-UNNAMED", "--sun-misc-unsafe-memory-access=allow") if java.major >= 24 else ()
    return (
        str(java.executable), *JVM_OPTIONS, *quiet, *options,
        "-cp", os.pathsep.join(map(str, class_path)),
        f"-Dlog4j2.configurationFile={jars.LOCKS / 'log4j2.properties'}",
        main, *arguments,
    )  # fmt: skip


def _archive_options(java: Java, archive: Path, unfinished: Path) -> tuple[str, ...]:
    """Return the options to start from the archive of classes, or to write one at the first clean exit.

    On two busy cores a start from an archive takes 3 s instead of 5 s; the first stop takes some seconds longer.
    Java 25 writes it in one step (JEP 514); older ones have the dynamic archive of JEP 350.
    """
    quiet = ("-Xlog:disable", "-Xlog:all=error:stdout")
    if java.major >= 25:
        return *quiet, f"-XX:AOTCache={archive}" if archive.exists() else f"-XX:AOTCacheOutput={unfinished}"
    return *quiet, f"-XX:SharedArchiveFile={archive}" if archive.exists() else f"-XX:ArchiveClassesAtExit={unfinished}"


def _environment() -> dict[str, str]:
    """Return the broker's environment: Kafka's own variables of the user are not meant for this broker."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("KAFKA_", "LOG_DIR"))}


def _cluster_id() -> str:
    return base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")
