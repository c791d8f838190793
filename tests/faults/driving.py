"""What the cases do to the running services, and how they look at what comes of it."""

import signal
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import httpx
from confluent_kafka import Message

from recstream.kafka.tail import Start, Tail
from recstream.messages.topics import INFERENCE_RESULTS
from tests.integration.conftest import Process, Services


@contextmanager
def results(services: Services) -> Iterator[list[Message]]:
    """Yield what arrives on the results topic from now on, in log order within each key."""
    seen: list[Message] = []
    tail = Tail(services.kafka, "t-results", INFERENCE_RESULTS.name, Start.END, seen.extend)
    tail.start()
    try:
        assert tail.wait_ready(20)
        yield seen
    finally:
        tail.close()


@contextmanager
def stopped(process: Process) -> Iterator[Process]:
    """Hold a process still; whatever it was doing goes on afterwards."""
    process.popen.send_signal(signal.SIGSTOP)
    try:
        yield process
    finally:
        go_on(process)


def go_on(process: Process) -> None:
    """Let a process that was held still go on."""
    process.popen.send_signal(signal.SIGCONT)


def post(services: Services, **body: object) -> str:
    """Make a request without waiting; return its id."""
    answer = httpx.post(f"{services.url}/v1/recommendations", json={"history": ["1", "2"], **body})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["request_id"])


def cancel(services: Services, request_id: str) -> httpx.Response:
    """Cancel a request."""
    return httpx.delete(f"{services.url}/v1/recommendations/{request_id}", timeout=30)


def read_events(lines: Iterable[str]) -> Iterator[dict[str, str]]:
    """Yield each server-sent event by its fields; a comment by `comment` alone."""
    fields: dict[str, str] = {}
    for line in lines:
        name, _, value = line.partition(":")
        if line == "":
            yield fields
            fields = {}
        else:
            fields[name or "comment"] = value.removeprefix(" ")
    assert fields == {}, "the last event was not complete"
