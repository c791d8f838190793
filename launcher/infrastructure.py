"""Kafka and PostgreSQL without the services, for tests and benchmarks: on free ports, below a folder of their own."""

import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import TracebackType
from typing import Self

from launcher.kafka import KafkaServer
from launcher.layout import CHECKOUT, Layout
from launcher.ports import Ports
from launcher.postgres import PostgresServer
from launcher.service_env import service_env


class LocalInfrastructure:
    """A real broker and a real database, started on entry; stopped, and their data deleted, on exit.

    `kafka` and `postgres` can be stopped, killed and started again one by one, to see how services take it.
    """

    def __init__(self, root: Path, ports: Ports | None = None) -> None:
        """Describe it; nothing starts yet.

        Args:
            root: a folder for data, logs and checkpoints, of this infrastructure alone.
            ports: which ports to listen on; free ones by default.
        """
        self.layout = Layout(home=root.absolute(), checkpoints=root.absolute() / "checkpoints")
        self.ports = ports or Ports.free()
        self.kafka = KafkaServer(
            data=self.layout.data / "kafka",
            log=self.layout.log("kafka"),
            # Shared with the checkout's own stack, so that only the first start ever is a slow one.
            cache=CHECKOUT / ".local" / "cache",
            port=self.ports.kafka,
            controller_port=self.ports.kafka_controller,
        )
        self.postgres = PostgresServer(
            data=self.layout.data / "postgres",
            log=self.layout.log("postgres"),
            secrets_dir=self.layout.secrets,
            port=self.ports.postgres,
        )

    @property
    def bootstrap_servers(self) -> str:
        """What Kafka clients connect to."""
        return self.kafka.bootstrap_servers

    @property
    def env(self) -> dict[str, str]:
        """The whole environment for a service's process: this one's, and where Kafka, PostgreSQL and bundles are."""
        return service_env(os.environ, self.layout, self.ports)

    def start(self) -> None:
        """Start both at once and return when both can be used.

        Raises:
            LauncherError: where one cannot be started; the other is stopped again.
        """
        try:
            with ThreadPoolExecutor() as pool:
                for started in [pool.submit(self.kafka.start), pool.submit(self.postgres.start)]:
                    started.result()
        except BaseException:
            self.stop()
            raise
        self.layout.checkpoints.mkdir(parents=True, exist_ok=True)

    def stop(self) -> None:
        """Stop both; the data stays for another start."""
        with ThreadPoolExecutor() as pool:
            for stopped in [pool.submit(self.kafka.stop), pool.submit(self.postgres.stop)]:
                stopped.result()

    def __enter__(self) -> Self:
        """Start both."""
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop both and delete the data; the logs stay."""
        self.stop()
        self.kafka.remove()
        self.postgres.remove()
