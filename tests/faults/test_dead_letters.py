"""Bad records on the running services: looked at, sent once more, and stopped before there are too many."""

import base64
import json
import signal
import subprocess
import sys
import uuid
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import httpx
import psycopg
import pytest
from confluent_kafka import Message, Producer
from confluent_kafka.admin import (  # type: ignore[attr-defined]  # all but the first are missing in its __all__
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    ResourceType,
)

from launcher.service_env import worker_env
from recstream.kafka.records import headers_of
from recstream.kafka.tail import Start, Tail
from recstream.messages.envelope import header
from recstream.messages.identifiers import new_request_id
from recstream.messages.topics import ACTIVITY_EVENTS, INFERENCE_REQUESTS, INFERENCE_RESULTS, Topic
from tests.faults.driving import post, stopped
from tests.integration.conftest import Process, Services
from tests.waiting import eventually

pytestmark = pytest.mark.integration

_PENDING = """
    INSERT INTO predictions (request_id, status, request_json, created_at) VALUES (%s, 'PENDING', '{}', now())
"""


@pytest.fixture
def plain(services: Services) -> Producer:
    """Return a producer that checks nothing."""
    return Producer(services.kafka.client("tests"))


@pytest.fixture(autouse=True)
def _a_worker_serves(services: Services) -> None:
    """Begin each case with a worker that answers, however the one before ended.

    A process that was only just started has no signal handler yet: told to stop, it would die of the signal.
    """
    if not any(p.name == "worker-1" and p.popen.poll() is None for p in services.processes):
        services.start_worker("worker-1")
    eventually(lambda: services.recommend({"history": ["1"]}).status_code == 200, what="a worker that answers")


@contextmanager
def _letters(services: Services, topic: Topic) -> Iterator[list[Message]]:
    """Yield what arrives on the topic's dead letters from now on."""
    seen: list[Message] = []
    tail = Tail(services.kafka, "t-letters", topic.dead_letters.name, Start.END, seen.extend)
    tail.start()
    try:
        assert tail.wait_ready(20)
        yield seen
    finally:
        tail.close()


def _id(record: Message) -> str:
    return f"{record.topic()}:{record.partition()}:{record.offset()}"


def _status(postgres: psycopg.Connection, request_id: str) -> str:
    row = postgres.execute("SELECT status FROM predictions WHERE request_id = %s", (request_id,)).fetchone()
    assert row is not None
    return str(row[0])


def _redrive(services: Services, letter: str) -> httpx.Response:
    return httpx.post(f"{services.url}/v1/dead-letters/{letter}/redrive", timeout=20)


def _admin(services: Services, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-P", "-m", "admin", "dlq", *arguments]
    return subprocess.run(command, env=services.env | settings, capture_output=True, text=True, timeout=60, check=False)


def test_a_letter_is_shown_with_its_own_bytes_and_sent_once_more_only_once(
    services: Services, postgres: psycopg.Connection, plain: Producer
) -> None:
    """An event whose user id was refused once, as by a bug since mended: the row of the user table is in the way."""
    user, value = f"u-{uuid.uuid4().hex}", b"\xff\x00 not json"
    with _letters(services, ACTIVITY_EVENTS) as letters:
        plain.produce(ACTIVITY_EVENTS.name, key=user.encode(), value=value, headers={"mine": b"\xfe"})
        plain.flush()
        eventually(lambda: letters, what="the letter")
        letter = _id(letters[0])
        url = f"{services.url}/v1/dead-letters"
        listed = httpx.get(url, params={"topic": ACTIVITY_EVENTS.name}).json()["dead_letters"]
        assert listed[0]["id"] == letter
        shown = httpx.get(f"{url}/{letter}").json()
        assert base64.b64decode(shown["value_base64"]) == value
        assert (shown["key"], shown["reason"], shown["service"]) == (user, "malformed", "db_writer")
        assert [entry["name"] for entry in shown["headers"]] == ["mine"]
        assert (shown["redrives"], shown["redriven_at"]) == (0, None)
        # Ten at once send it once.
        first = [_redrive(services, letter).json() for _ in range(10)]
        assert [sent["repeated"] for sent in first] == [False] + [True] * 9
        assert len({sent["redriven_at"] for sent in first}) == 1
        eventually(lambda: len(letters) == 2, what="its return")
        again = _admin(services, "redrive", letter)
        assert again.returncode == 0, again.stderr
        assert "was sent before" in again.stdout
        back = letters[1]
        assert back.value() == value
        assert back.key() == user.encode()
        assert [pair for pair in headers_of(back) if pair[0] == "mine"] == [("mine", b"\xfe")]
        assert header(headers_of(back), "dlq_redrives") == "1"
        # It comes back each time, and that has an end.
        for count in (2, 3):
            assert _redrive(services, _id(letters[-1])).status_code == 200
            eventually(lambda: len(letters) == count + 1)  # noqa: B023 - looked at before the next round
        refused = _redrive(services, _id(letters[-1]))
        assert refused.status_code == 409
        assert refused.json()["type"] == "/problems/not-redrivable"
        assert len(letters) == 4
    counted = postgres.execute("SELECT count(*) FROM redrives WHERE topic = %s", (letters[0].topic(),)).fetchone()
    assert counted == (3,)


def test_a_result_that_came_too_early_counts_once_it_is_sent_again(
    services: Services, postgres: psycopg.Connection, plain: Producer
) -> None:
    """RELIABILITY row 17, and the way back from it."""
    request_id = str(new_request_id())
    with _letters(services, INFERENCE_RESULTS) as letters:
        value = json.dumps({"request_id": request_id, "status": "completed"}).encode()
        plain.produce(INFERENCE_RESULTS.name, key=request_id.encode(), value=value)
        plain.flush()
        eventually(lambda: letters)
        assert header(headers_of(letters[0]), "dlq_reason") == "unknown_request"
        postgres.execute(_PENDING, (request_id,))
        sent = _admin(services, "redrive", "--all", "--topic", INFERENCE_RESULTS.name, "--reason", "unknown_request")
        assert sent.returncode == 0, sent.stderr
        assert _id(letters[0]) in sent.stdout
        eventually(lambda: _status(postgres, request_id) == "COMPLETED")


def test_a_request_that_has_ended_is_not_sent_again(
    services: Services, postgres: psycopg.Connection, plain: Producer
) -> None:
    request_id = str(new_request_id())
    postgres.execute(_PENDING, (request_id,))
    with _letters(services, INFERENCE_REQUESTS) as letters:
        plain.produce(INFERENCE_REQUESTS.name, key=request_id.encode(), value=b"?")
        plain.flush()
        eventually(lambda: _status(postgres, request_id) == "FAILED")
        refused = _redrive(services, _id(letters[0]))
    assert refused.status_code == 409
    assert "FAILED" in refused.json()["detail"]


def test_redrives_are_limited_for_all_together(
    services: Services, postgres: psycopg.Connection, plain: Producer
) -> None:
    with _letters(services, ACTIVITY_EVENTS) as letters:
        plain.produce(ACTIVITY_EVENTS.name, key=b"k", value=b"?")
        plain.flush()
        eventually(lambda: letters)
        letter = _id(letters[0])
    recent = "SELECT count(*) FROM redrives WHERE redriven_at > now() - interval '1 minute'"
    postgres.execute(
        "INSERT INTO redrives SELECT 'elsewhere', 0, n, now(), now(), 'another' FROM generate_series(1, 120) AS n"
    )
    try:
        assert postgres.execute(recent).fetchone() != (0,)
        refused = _redrive(services, letter)
        assert refused.status_code == 429
        assert refused.headers["retry-after"]
    finally:
        postgres.execute("DELETE FROM redrives WHERE topic = 'elsewhere'")


@pytest.mark.parametrize(
    "letter",
    [
        "x",
        "inference.requests:0:0",
        "inference.requests.dlq:0:999999",
        "inference.requests.dlq:7:0",
        "inference.requests.dlq:0:-1",
        "system.control.dlq:0:0",
        "inference.requests.dlq:0:99999999999999999999",
        "inference.requests.dlq:0:%D9%A3",
    ],
)
def test_letters_that_are_not_there(services: Services, letter: str) -> None:
    for answer in (httpx.get(f"{services.url}/v1/dead-letters/{letter}"), _redrive(services, letter)):
        assert answer.status_code == 404
        assert answer.headers["content-type"] == "application/problem+json"


def test_letters_are_paged(services: Services, plain: Producer) -> None:
    with _letters(services, ACTIVITY_EVENTS) as letters:
        for _ in range(3):
            plain.produce(ACTIVITY_EVENTS.name, key=b"k", value=b"?")
        plain.flush()
        eventually(lambda: len(letters) == 3)
        expected = [_id(record) for record in reversed(letters)]
    found: list[str] = []
    parameters: dict[str, Any] = {"limit": 2}
    while len(found) < 200:
        page = httpx.get(f"{services.url}/v1/dead-letters", params=parameters).json()
        found += [letter["id"] for letter in page["dead_letters"]]
        if page["next_cursor"] is None:
            break
        parameters["cursor"] = page["next_cursor"]
    assert found[:3] == expected
    assert len(found) == len(set(found))
    for cursor in ("%00", "bm8=", "e30x", "WzFd"):
        assert httpx.get(f"{services.url}/v1/dead-letters?cursor={cursor}").status_code == 422
    assert httpx.get(f"{services.url}/v1/dead-letters?topic=system.control").status_code == 422


def _limit_letters(services: Services, topic: Topic, most: str | None) -> None:
    """Let the broker refuse every record for the topic's dead letters, or take them again."""
    operation = AlterConfigOpType.SET if most is not None else AlterConfigOpType.DELETE
    entry = ConfigEntry("max.message.bytes", most or "", incremental_operation=operation)
    resource = ConfigResource(ResourceType.TOPIC, topic.dead_letters.name, incremental_configs=[entry])
    # Held until the answer is there: a client that is collected meanwhile ends its requests.
    admin = AdminClient(services.kafka.client("tests"))
    for future in admin.incremental_alter_configs([resource]).values():
        future.result()


def test_a_worker_that_cannot_write_its_dead_letters_stops_uncommitted(
    services: Services, postgres: psycopg.Connection, plain: Producer
) -> None:
    """RELIABILITY row 14."""
    worker = services.process("worker-1")
    with _letters(services, INFERENCE_REQUESTS) as letters:
        _limit_letters(services, INFERENCE_REQUESTS, "1")
        try:
            plain.produce(INFERENCE_REQUESTS.name, key=b"?", value=b"cannot be set aside")
            plain.flush()
            assert worker.popen.wait(60) == 1
            # Started again, as its supervisor does, it meets the same record and stops again; it is no fault of
            # the record's, however often.
            for _ in range(4):
                assert services.start_worker("worker-1").popen.wait(60) == 1
            waiting = post(services)
            assert letters == []
        finally:
            _limit_letters(services, INFERENCE_REQUESTS, None)
        services.start_worker("worker-1")
        eventually(lambda: letters, what="the record on its dead letters")
        assert letters[0].value() == b"cannot be set aside"
        assert header(headers_of(letters[0]), "dlq_reason") == "malformed"
        eventually(lambda: _status(postgres, waiting) == "COMPLETED")


def test_nothing_but_bad_records_stops_the_worker_until_good_ones_come(
    services: Services, postgres: psycopg.Connection, plain: Producer
) -> None:
    """RELIABILITY row 15. A run of bad records is on the topic when the worker starts."""
    assert services.process("worker-1").terminate() == 0
    ids = [str(new_request_id()) for _ in range(200)]
    # With their rows, as accepted ones have: results of unknown requests would open the db_writer's breaker as well.
    for request_id in ids:
        postgres.execute(_PENDING, (request_id,))
    with _letters(services, INFERENCE_REQUESTS) as letters:
        for request_id in ids:
            plain.produce(INFERENCE_REQUESTS.name, key=request_id.encode(), value=b'{"of": "another version"}')
        plain.flush()
        settings = {"CONSUMER_BREAKER_RECORDS": "20", "CONSUMER_BREAKER_SECONDS": "2"}
        worker = _start_worker(services, settings)
        checks = eventually(lambda: (c := _checks(worker)) and c.get("breaker") is False and c, what="an open breaker")
        assert isinstance(checks, dict)
        assert "breaker.open" in worker.log.read_text()
        # It has left its partitions; what it set aside is a fraction.
        assert len(letters) < 100
        # Good records arrive: a probe finds one, and everything is dealt with.
        good = [post(services) for _ in range(12)]
        for request_id in good:
            eventually(lambda: _status(postgres, request_id) == "COMPLETED")  # noqa: B023 - looked at at once
        eventually(lambda: all((_checks(worker) or {"": False}).values()), what="readiness")
        eventually(lambda: {(r.key() or b"").decode() for r in letters} >= set(ids), what="every bad record set aside")
        assert max(Counter(record.key() for record in letters).values()) == 1
        for request_id in ids:
            eventually(lambda: _status(postgres, request_id) == "FAILED")  # noqa: B023 - looked at at once
    assert worker.terminate() == 0
    services.start_worker("worker-1")


def _start_worker(services: Services, settings: Mapping[str, str]) -> Process:
    env = worker_env(services.env | dict(settings), "worker-1", 0)
    log = services.infrastructure.layout.log("worker-1")
    if log.exists():
        log.rename(log.with_suffix(f".{uuid.uuid4().hex}.log"))
    return services.start("worker-1", "worker", env)


def _checks(worker: Process) -> dict[str, bool] | None:
    """Return the worker's readiness checks, None while it does not answer."""
    found = [line for line in worker.log.read_text().splitlines() if "metrics_port=" in line]
    if not found:
        return None
    port = found[-1].split("metrics_port=")[1].split()[0]
    try:
        answer = httpx.get(f"http://127.0.0.1:{port}/health/ready")
    except httpx.TransportError:
        return None
    body = answer.json()
    assert (answer.status_code == 200) == all(body["checks"].values())
    checks: dict[str, bool] = body["checks"]
    return checks


_EXPLOSIVE = """
import os, runpy, signal
from worker.inference import ServedModel
answer = ServedModel.answer
def explode(self, requests):
    if any("explosive" in request.history for request in requests):
        os.kill(os.getpid(), signal.SIGKILL)
    return answer(self, requests)
ServedModel.answer = explode
runpy.run_module("worker", run_name="__main__")
"""


def test_a_request_that_kills_every_worker_is_set_aside_and_its_neighbours_complete(
    services: Services, postgres: psycopg.Connection
) -> None:
    """RELIABILITY row 16: real deaths, a supervisor that starts the worker again each time."""
    assert services.process("worker-1").terminate() == 0
    before = [post(services) for _ in range(30)]
    culprit = post(services, history=["explosive"])
    after = [post(services) for _ in range(30)]
    deaths = 0
    with _letters(services, INFERENCE_REQUESTS) as letters:
        while True:
            env = worker_env(services.env, "worker-1", 0)
            worker = subprocess.Popen([sys.executable, "-P", "-c", _EXPLOSIVE], env=env)
            try:
                eventually(
                    lambda: worker.poll() is not None or _status(postgres, culprit) != "PENDING",  # noqa: B023
                    what="a death or the end of it",
                )
                if worker.poll() is None:
                    for request_id in before + after:
                        eventually(lambda: _status(postgres, request_id) == "COMPLETED")  # noqa: B023
                    break
                assert worker.returncode == -signal.SIGKILL
                deaths += 1
                assert deaths <= 5
            finally:
                if worker.poll() is None:
                    worker.terminate()
                    assert worker.wait(20) == 0
        eventually(lambda: letters)
    assert _status(postgres, culprit) == "FAILED"
    assert [(record.key() or b"").decode() for record in letters] == [culprit]
    assert header(headers_of(letters[0]), "dlq_reason") == "crash"
    assert deaths == 4, "in the batch, then three times by itself"
    services.start_worker("worker-1")


def test_a_worker_that_is_killed_at_rest_suspects_nobody(services: Services, postgres: psycopg.Connection) -> None:
    eventually(lambda: services.recommend({"history": ["1"]}).status_code == 200)
    with _letters(services, INFERENCE_REQUESTS) as letters:
        for _ in range(5):
            services.process("worker-1").kill()
            services.start_worker("worker-1")
            answer = services.recommend({"history": ["1"]}, wait=30)
            request_id = answer.json()["request_id"]
            eventually(lambda: _status(postgres, request_id) == "COMPLETED")  # noqa: B023 - looked at at once
        with stopped(services.process("db_writer")):
            assert services.recommend({"history": ["1"]}).json()["status"] == "COMPLETED"
    assert [(header(headers_of(r), "dlq_reason"), header(headers_of(r), "dlq_detail")) for r in letters] == []
