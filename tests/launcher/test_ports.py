"""Ports: the defaults moved, free ones, and what a person is told about a taken one."""

import os
import socket
from collections.abc import Iterator
from dataclasses import replace

import pytest

from launcher.errors import LauncherError
from launcher.ports import LOOPBACK, Ports, free_offset, free_ports, is_free


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server((LOOPBACK, 0)) as server:
        yield server


def test_the_defaults_are_those_that_users_of_such_stacks_expect() -> None:
    ports = Ports.with_offset(0, workers=2)
    assert (ports.api, ports.kafka, ports.postgres) == (8000, 9092, 5432)
    assert ports.workers == (9111, 9112)


def test_an_offset_moves_every_port() -> None:
    plain, moved = Ports.with_offset(0, workers=3), Ports.with_offset(100, workers=3)
    assert [port + 100 for _, port in plain] == [port for _, port in moved]


def test_a_listening_port_is_not_free(listener: socket.socket) -> None:
    assert not is_free(listener.getsockname()[1])


def test_free_ports_differ_and_can_be_listened_on() -> None:
    ports = free_ports(20)
    assert len(set(ports)) == 20
    assert all(is_free(port) for port in ports)


def test_a_taken_port_is_named_with_its_service_its_holder_and_a_remedy(listener: socket.socket) -> None:
    taken = listener.getsockname()[1]
    with pytest.raises(LauncherError) as raised:
        replace(Ports.free(), postgres=taken).require_free(offset=0)
    message = str(raised.value)
    assert f"Port {taken} for postgres is taken" in message
    assert f"(process {os.getpid()})" in message
    assert "./run up --port-offset " in message


def test_the_proposed_offset_is_one_whose_ports_are_free(listener: socket.socket) -> None:
    with pytest.raises(LauncherError) as raised:
        replace(Ports.free(workers=1), api=listener.getsockname()[1]).require_free(offset=0)
    offset = int(str(raised.value).rsplit(" ", 1)[1])
    assert all(is_free(port) for _, port in Ports.with_offset(offset, workers=1))


def test_what_the_stack_can_do_without_may_find_its_port_taken(listener: socket.socket) -> None:
    replace(Ports.free(), prometheus=listener.getsockname()[1]).require_free(offset=0)


def test_free_ports_are_accepted() -> None:
    Ports.free().require_free(offset=0)


def test_a_free_offset_has_free_ports() -> None:
    assert all(is_free(port) for _, port in Ports.with_offset(free_offset(workers=2), workers=2))
