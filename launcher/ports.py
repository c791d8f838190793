"""The ports of one stack: the defaults, the defaults moved by an offset, or free ones; and who holds a taken one."""

import random
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass

import psutil

from launcher.errors import LauncherError
from recstream.ops import ports as default

LOOPBACK = "127.0.0.1"
# Below what Linux gives to outgoing connections (32768 and up), so that none takes a port between choice and use.
_FREE_RANGE = range(25000, 32000)
_FREE_OFFSETS = range(17000, 22000, 20)
_OPTIONAL = frozenset({"prometheus"})


@dataclass(frozen=True)
class Ports:
    """Every port that the launcher opens, all on the loopback address. `workers` are the workers' metrics ports."""

    api: int
    ui: int
    prometheus: int
    kafka: int
    kafka_controller: int
    postgres: int
    db_writer: int
    marts: int
    workers: tuple[int, ...]

    @classmethod
    def with_offset(cls, offset: int, workers: int) -> "Ports":
        """Return the default ports, each moved by `offset`."""
        first_worker = default.WORKER_METRICS + offset
        return cls(
            api=default.API + offset,
            ui=default.UI + offset,
            prometheus=default.PROMETHEUS + offset,
            kafka=default.KAFKA + offset,
            kafka_controller=default.KAFKA_CONTROLLER + offset,
            postgres=default.POSTGRES + offset,
            db_writer=default.DB_WRITER_METRICS + offset,
            marts=default.MARTS + offset,
            workers=tuple(range(first_worker, first_worker + workers)),
        )

    @classmethod
    def free(cls, workers: int = 2) -> "Ports":
        """Return ports that nothing listens on, chosen at random so that parallel callers hardly meet."""
        api, ui, prometheus, kafka, kafka_controller, postgres, db_writer, marts, *others = free_ports(8 + workers)
        return cls(api, ui, prometheus, kafka, kafka_controller, postgres, db_writer, marts, tuple(others))

    def __iter__(self) -> Iterator[tuple[str, int]]:
        """Yield (service, port)."""
        yield from (
            ("api", self.api),
            ("ui", self.ui),
            ("prometheus", self.prometheus),
            ("kafka", self.kafka),
            ("kafka's controller", self.kafka_controller),
            ("postgres", self.postgres),
            ("db_writer's metrics", self.db_writer),
            ("marts' metrics", self.marts),
        )
        yield from ((f"worker-{n}'s metrics", port) for n, port in enumerate(self.workers, start=1))

    def require_free(self, offset: int) -> None:
        """Check that every port can be listened on, but those of what the stack can do without.

        Raises:
            LauncherError: that names each taken port, its service, who holds it, and an offset whose ports are free.
        """
        taken = [(service, port) for service, port in self if service not in _OPTIONAL and not is_free(port)]
        if not taken:
            return
        lines = "; ".join(f"port {port} for {service} is taken{_holder(port)}" for service, port in taken)
        for other in range(offset + 100, offset + 5000, 100):
            if all(is_free(port) for _, port in Ports.with_offset(other, len(self.workers))):
                remedy = f"./run up --port-offset {other}"
                raise LauncherError(f"{lines[0].upper()}{lines[1:]}. Free it, or move all ports: {remedy}")
        raise LauncherError(f"{lines[0].upper()}{lines[1:]}. Free it, or move all ports with ./run up --port-offset N")


def is_free(port: int) -> bool:
    """Tell whether the port can be listened on at the loopback address."""
    try:
        with _bound(port):
            return True
    except OSError:
        return False


def free_offset(workers: int = 1) -> int:
    """Return an offset at random at which every port is free; for stacks beside another, as in tests."""
    for offset in random.sample(_FREE_OFFSETS, len(_FREE_OFFSETS)):
        if all(is_free(port) for _, port in Ports.with_offset(offset, workers)):
            return offset
    raise LauncherError("No port offset is left at which every port is free.")


def free_ports(count: int) -> list[int]:
    """Return `count` different ports that nothing listens on."""
    with ExitStack() as held:
        found: list[int] = []
        for port in random.sample(_FREE_RANGE, len(_FREE_RANGE)):
            try:
                held.enter_context(_bound(port))
            except OSError:
                continue
            found.append(port)
            if len(found) == count:
                return found
    raise LauncherError("No free ports are left on the loopback address.")


def _bound(port: int) -> socket.socket:
    probe = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    # As servers do: a port whose last connections are still closing is free.
    probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        probe.bind((LOOPBACK, port))
    except OSError:
        probe.close()
        raise
    return probe


def _holder(port: int) -> str:
    try:
        for connection in psutil.net_connections("tcp"):
            address = connection.laddr
            if connection.status == psutil.CONN_LISTEN and address and address.port == port and connection.pid:
                return f" by {psutil.Process(connection.pid).name()} (process {connection.pid})"
    except psutil.Error:
        pass  # Others' processes can be seen by root alone.
    return ""
