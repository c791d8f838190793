"""A request's event stream: from its states alone, resumable anywhere, bounded."""

import contextlib
import json
import signal
import socket
import subprocess
import sys
import uuid
from collections.abc import Iterator

import httpx
import psutil
import pytest

from launcher.ports import Ports
from tests.faults.conftest import SETTINGS
from tests.faults.driving import cancel, go_on, post, read_events, stopped
from tests.integration.conftest import Services
from tests.waiting import answers, eventually

pytestmark = pytest.mark.integration

MOST = int(SETTINGS["API_MAX_STREAMS"])


@pytest.fixture
def replica(services: Services) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """Return another api's address and process."""
    port = Ports.free(workers=0).api
    process = subprocess.Popen([sys.executable, "-P", "-m", "api"], env=services.env | {"API_PORT": str(port)})
    url = f"http://127.0.0.1:{port}"
    try:
        eventually(lambda: answers(f"{url}/health/ready"), what="another api")
        yield url, process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) == 0


def _path(request_id: str) -> str:
    return f"/v1/recommendations/{request_id}/events"


def test_a_stream_tells_of_the_end_and_closes(services: Services) -> None:
    with httpx.Client(base_url=services.url, timeout=30) as client, stopped(services.process("worker-1")) as worker:
        request_id = post(services)
        with client.stream("GET", _path(request_id)) as answer:
            assert answer.headers["content-type"].startswith("text/event-stream")
            events = read_events(answer.iter_lines())
            first = next(events)
            assert (first["event"], first["id"]) == ("pending", "pending")
            assert json.loads(first["data"])["status"] == "PENDING"
            assert next(events) == {"comment": "ping"}, "a heartbeat"
            go_on(worker)
            rest = [event for event in events if "comment" not in event]
    assert [(event["event"], event["id"]) for event in rest] == [("ended", "ended")]
    ended = json.loads(rest[0]["data"])
    assert ended["status"] == "COMPLETED"
    assert ended == httpx.get(f"{services.url}/v1/recommendations/{request_id}").json()
    with httpx.stream("GET", services.url + _path(request_id)) as late:
        assert [event["event"] for event in read_events(late.iter_lines())] == ["ended"], "one that comes late"


def test_a_stream_goes_on_at_another_replica(services: Services, replica: tuple[str, subprocess.Popen[bytes]]) -> None:
    with httpx.Client(timeout=30) as client, stopped(services.process("worker-1")):
        request_id = post(services)
        with client.stream("GET", replica[0] + _path(request_id), headers={"Last-Event-ID": "pending"}) as answer:
            events = read_events(answer.iter_lines())
            assert next(events) == {"comment": "ping"}, "the state that the client knows is not told again"
            assert cancel(services, request_id).status_code == 200
            rest = [event for event in events if "comment" not in event]
    assert [json.loads(event["data"])["status"] for event in rest] == ["CANCELLED"]
    done = httpx.get(replica[0] + _path(request_id), headers={"Last-Event-ID": "ended"})
    assert done.status_code == 204


def test_streams_of_nothing(services: Services) -> None:
    unknown = httpx.get(services.url + _path(str(uuid.uuid4())))
    assert unknown.status_code == 404
    assert unknown.headers["content-type"] == "application/problem+json"
    assert httpx.get(services.url + _path("x")).status_code == 422
    assert _open_streams(services) == 0, "a refused stream holds no place"


def test_streams_are_capped_and_stalled_readers_cost_little(services: Services) -> None:
    """RELIABILITY row 26: readers that never read."""
    memory = psutil.Process(services.process("api").popen.pid).memory_info
    before = memory().rss
    with contextlib.ExitStack() as open_sockets, stopped(services.process("worker-1")):
        request_id = post(services)
        for _ in range(MOST):
            stalled = open_sockets.enter_context(socket.socket())
            stalled.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1024)
            stalled.connect(("127.0.0.1", services.infrastructure.ports.api))
            stalled.sendall(f"GET {_path(request_id)} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        eventually(lambda: _open_streams(services) == MOST, what="all streams open")
        refused = httpx.get(services.url + _path(request_id))
        assert refused.status_code == 503
        assert refused.headers["retry-after"]
        assert refused.json()["type"] == "/problems/too-many-streams"
        assert answers(f"{services.url}/v1/recommendations/{request_id}"), "other calls go on"
        assert cancel(services, request_id).json()["status"] == "CANCELLED"
        eventually(lambda: _open_streams(services) == 0, what="their end, read or not")
        assert memory().rss - before < 50_000_000
    assert services.recommend({"history": ["1"]}).json()["status"] == "COMPLETED"


def test_a_client_that_leaves_gives_its_place_back(services: Services) -> None:
    with stopped(services.process("worker-1")):
        request_id = post(services)
        with httpx.stream("GET", services.url + _path(request_id)) as answer:
            chunks = answer.iter_raw()
            next(chunks)
            assert _open_streams(services) == 1
        eventually(lambda: _open_streams(services) == 0)


def test_a_stopping_api_ends_its_streams(services: Services, replica: tuple[str, subprocess.Popen[bytes]]) -> None:
    url, process = replica
    with httpx.Client(timeout=30) as client, stopped(services.process("worker-1")):
        request_id = post(services)
        with client.stream("GET", url + _path(request_id)) as answer:
            events = read_events(answer.iter_lines())
            assert next(events)["event"] == "pending"
            process.send_signal(signal.SIGTERM)
            assert [event for event in events if "comment" not in event] == []
        assert process.wait(8) == 0, "before the ten seconds after which uvicorn cancels what is left"


def _open_streams(services: Services) -> float:
    lines = httpx.get(f"{services.url}/metrics").text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("http_streams_open "))
