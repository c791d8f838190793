"""Every accepted request ends, once, and in the same way for everyone who looks."""

import json
import random
import re
import signal
import subprocess
import sys
import threading
import uuid
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import psycopg
import pytest
from confluent_kafka import Producer

from launcher.ports import Ports
from recstream.messages.codec import encode
from recstream.messages.identifiers import new_request_id
from recstream.messages.outcomes import expired
from recstream.messages.topics import INFERENCE_REQUESTS, INFERENCE_RESULTS
from tests.faults.driving import cancel, post, read_events, results, stopped
from tests.integration.conftest import Services
from tests.waiting import answers, eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def plain(services: Services) -> Producer:
    """Return a producer that checks nothing."""
    return Producer(services.kafka.client("tests"))


def _get(services: Services, request_id: str, wait: int = 0) -> dict[str, Any]:
    headers = {"Prefer": f"wait={wait}"} if wait else {}
    answer = httpx.get(f"{services.url}/v1/recommendations/{request_id}", headers=headers, timeout=30)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert isinstance(found, dict)
    return found


def _row(postgres: psycopg.Connection, request_id: str) -> tuple[str, str | None]:
    row = postgres.execute("SELECT status, error_type FROM predictions WHERE request_id = %s", (request_id,)).fetchone()
    assert row is not None
    return row[0], row[1]


def test_what_waits_can_be_cancelled_and_is_then_not_answered(services: Services, postgres: psycopg.Connection) -> None:
    with results(services) as seen:
        with stopped(services.process("worker-1")):
            request_id = post(services)
            cancelled = cancel(services, request_id)
            assert cancelled.status_code == 200, cancelled.text
            body = cancelled.json()
            assert (body["status"], body["error"]["type"]) == ("CANCELLED", "/problems/cancelled")
            assert cancel(services, request_id).json() == body, "a repetition changes nothing"
            eventually(lambda: _row(postgres, request_id) == ("CANCELLED", "/problems/cancelled"))
        # The worker takes the request now, or has it in its hands; whatever it says comes second.
        assert services.recommend({"history": ["5"]}).json()["status"] == "COMPLETED"
    assert _get(services, request_id) == body
    assert json.loads(next(r for r in seen if r.key() == request_id.encode()).value() or b"")["status"] == "cancelled"


def test_the_worker_skips_what_it_has_seen_cancelled(services: Services, plain: Producer) -> None:
    """The request reaches the topic after its cancellation, as one that the relay publishes late."""
    with results(services) as seen:
        request_id = post(services)
        assert _get(services, request_id, wait=10)["status"] == "COMPLETED"
        late = str(new_request_id())
        ending = encode(expired(uuid.UUID(late), "A test's."))
        plain.produce(INFERENCE_RESULTS.name, key=late.encode(), value=ending)
        plain.flush()
        eventually(lambda: any(r.key() == late.encode() for r in seen))
        before = _metric(services, "worker_skipped_total")

        def skipped() -> bool:
            # The worker's tail may be a moment behind this test's; a request that it answers is no harm.
            body = {"request_id": late, "history": ["1"], "k": 1}
            plain.produce(INFERENCE_REQUESTS.name, key=late.encode(), value=json.dumps(body).encode())
            plain.flush()
            return _metric(services, "worker_skipped_total") > before

        eventually(skipped, what="a skipped request")


def _metric(services: Services, name: str) -> float:
    # The worker's port is one that the system gave it; its log tells.
    port = re.findall(r"metrics_port=(\d+)", services.process("worker-1").log.read_text())[-1]
    text = httpx.get(f"http://127.0.0.1:{port}/metrics").text
    return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))


def test_cancelling_what_has_ended_tells_how(services: Services) -> None:
    body = services.recommend({"history": ["3"]}).json()
    answer = cancel(services, body["request_id"])
    assert answer.status_code == 200
    assert answer.json() == body
    unknown = cancel(services, str(uuid.uuid4()))
    assert unknown.status_code == 404
    assert unknown.headers["content-type"] == "application/problem+json"


def test_a_worker_does_not_answer_after_the_deadline(services: Services, postgres: psycopg.Connection) -> None:
    with stopped(services.process("db_writer")):  # so that only the worker can end it
        with stopped(services.process("worker-1")):
            request_id = post(services, deadline_ms=100)
            eventually(
                lambda: (
                    postgres.execute(
                        "SELECT expires_at < now() FROM predictions WHERE request_id = %s", (request_id,)
                    ).fetchone()
                    == (True,)
                )
            )
        body = _get(services, request_id, wait=20)
    assert body["status"] == "EXPIRED"
    assert body["error"] == body["result"]["error"]
    assert body["error"]["type"] == "/problems/expired"
    assert "100 ms" in body["error"]["detail"]
    assert body["result"]["items"] == []
    eventually(lambda: _row(postgres, request_id) == ("EXPIRED", "/problems/expired"))


def test_a_deadline_that_holds_changes_nothing(services: Services) -> None:
    assert services.recommend({"history": ["1"], "deadline_ms": 30_000}).json()["status"] == "COMPLETED"


@pytest.mark.parametrize("deadline", [0, -1, 43_200_001, 1.5, "100", True])
def test_bad_deadlines(services: Services, deadline: object) -> None:
    assert services.recommend({"history": ["1"], "deadline_ms": deadline}).status_code == 422


def test_what_nothing_answers_is_swept_by_one_writer_and_then_by_another(
    services: Services, postgres: psycopg.Connection
) -> None:
    first = services.process("db_writer")
    second = services.start(
        "db_writer-2", "db_writer", services.env | {"DB_WRITER_ID": "db_writer-2", "DB_WRITER_METRICS_PORT": "0"}
    )
    eventually(lambda: "kafka.assigned" in second.log.read_text(), what="a second writer")
    try:
        with results(services) as seen:
            overdue = _overdue(postgres, 2_500)
            eventually(lambda: _count(postgres, overdue, "EXPIRED") == 2_500, what="all of them ended")
            proposed = Counter(record.key() for record in seen)
            assert set(proposed.values()) == {1}, "one writer sweeps at a time"
            assert {(key or b"").decode() for key in proposed} == set(overdue)
        first.kill()
        more = _overdue(postgres, 10)
        eventually(lambda: _count(postgres, more, "EXPIRED") == 10, what="the other writer's sweep")
    finally:
        services.start("db_writer", "db_writer", services.env)
        assert second.terminate() == 0


def _overdue(postgres: psycopg.Connection, count: int) -> list[str]:
    ids = [str(new_request_id()) for _ in range(count)]
    postgres.execute(
        """
        INSERT INTO predictions (request_id, status, request_json, created_at, expires_at)
        SELECT id, 'PENDING', '{}', now(), now() - interval '1 minute' FROM unnest(%s::uuid[]) AS id
        """,
        (ids,),
    )
    return ids


def _count(postgres: psycopg.Connection, ids: list[str], status: str) -> int:
    row = postgres.execute(
        "SELECT count(*) FROM predictions WHERE request_id = ANY(%s::uuid[]) AND status = %s", (ids, status)
    ).fetchone()
    assert row is not None
    return int(row[0])


_SHIFTED = """
import datetime, runpy, sys, types
import recstream.ops.clock as clock, uuid_utils
shift = float(sys.argv.pop(1))
real = clock.utc_now
clock.utc_now = lambda: real() + datetime.timedelta(seconds=shift)
uuid7 = uuid_utils.uuid7
uuid_utils.uuid7 = lambda: types.SimpleNamespace(int=uuid7().int + (int(shift * 1000) << 80))
runpy.run_module("api", run_name="__main__")
"""


@pytest.mark.parametrize("hours", [-2, 2])
def test_a_producers_clock_does_not_matter(services: Services, postgres: psycopg.Connection, hours: int) -> None:
    """RELIABILITY row 27: an api whose clock is two hours off."""
    port = Ports.free(workers=0).api
    env = services.env | {"API_PORT": str(port)}
    api = subprocess.Popen([sys.executable, "-P", "-c", _SHIFTED, str(hours * 3600)], env=env)
    url = f"http://127.0.0.1:{port}/v1/recommendations"
    try:
        eventually(lambda: answers(f"http://127.0.0.1:{port}/health/ready"), what="the second api")
        for deadline in (None, 20_000):
            body = {"history": ["1"]} | ({"deadline_ms": deadline} if deadline else {})
            ended = httpx.post(url, json=body, headers={"Prefer": "wait=10"}, timeout=20).json()
            assert ended["status"] == "COMPLETED"
            assert all(milliseconds >= 0 for milliseconds in ended["result"]["timings_ms"].values())
        with stopped(services.process("worker-1")):
            waiting = httpx.post(url, json={"history": ["1"], "deadline_ms": 20_000}).json()
            off = "abs(extract(epoch FROM created_at - now())) > 7000"
            left = "extract(epoch FROM expires_at - now()) BETWEEN 0 AND 20"
            row = postgres.execute(
                f"SELECT {off}, {left}, status FROM predictions WHERE request_id = %s", (waiting["request_id"],)
            ).fetchone()
            assert row == (True, True, "PENDING"), "the row's own clock is off, its deadline is not"
        assert _get(services, waiting["request_id"], wait=15)["status"] == "COMPLETED"
    finally:
        api.send_signal(signal.SIGTERM)
        assert api.wait(20) == 0


def test_replayed_requests_and_results_change_no_row(
    services: Services, postgres: psycopg.Connection, plain: Producer
) -> None:
    """RELIABILITY row 10: everything ten times over, results in another order than the first time."""
    with results(services) as seen:
        ids = [services.recommend({"history": [str(n)]}).json()["request_id"] for n in range(1, 16)]
        with stopped(services.process("worker-1")):
            ids += [cancel(services, post(services)).json()["request_id"] for _ in range(5)]
        eventually(lambda: _count(postgres, ids, "COMPLETED") + _count(postgres, ids, "CANCELLED") == 20)
        table = "SELECT p::text FROM predictions AS p WHERE request_id = ANY(%s::uuid[]) ORDER BY request_id"
        before = postgres.execute(table, (ids,)).fetchall()
        requests = postgres.execute(
            "SELECT request_id::text, request_json::text FROM predictions WHERE request_id = ANY(%s::uuid[])", (ids,)
        ).fetchall()
        first = [record for record in seen if (record.key() or b"").decode() in ids]
        random.Random(10).shuffle(first)
        for _ in range(10):
            for record in first:
                plain.produce(INFERENCE_RESULTS.name, key=record.key(), value=record.value())
            for request_id, body in requests:
                plain.produce(INFERENCE_REQUESTS.name, key=request_id.encode(), value=body.encode())
        plain.flush()
        # A hundred and fifty answers more, at least: those of the requests that were not cancelled.
        eventually(lambda: len([r for r in seen if (r.key() or b"").decode() in ids]) >= len(first) * 11 + 150)
        marker = services.recommend({"history": ["1"]}).json()["request_id"]
        eventually(lambda: _row(postgres, marker)[0] == "COMPLETED")
    assert postgres.execute(table, (ids,)).fetchall() == before


def test_when_ends_race_the_first_on_the_topic_counts_for_everyone(
    services: Services, postgres: psycopg.Connection
) -> None:
    """RELIABILITY row 35: a cancellation, an expiry and a worker's answer at once, many times."""
    rounds = 120
    with results(services) as seen, ThreadPoolExecutor(4) as pool:
        told = list(pool.map(lambda seed: _race(services, seed), range(rounds)))
        first: dict[str, str] = {}
        ids = [request_id for request_id, _ in told]
        eventually(lambda: {(r.key() or b"").decode() for r in seen} >= set(ids))
        eventually(lambda: _count(postgres, ids, "PENDING") == 0, what="every row ended")
        for record in list(seen):
            first.setdefault((record.key() or b"").decode(), json.loads(record.value() or b"")["status"].upper())
    wrong = {}
    for request_id, channels in told:
        statuses = {**channels, "row": _row(postgres, request_id)[0], "later": _get(services, request_id)["status"]}
        if set(statuses.values()) != {first[request_id]}:
            wrong[request_id] = (first[request_id], statuses)
    assert wrong == {}
    ends = Counter(first[request_id] for request_id in ids)
    assert len(ends) >= 2, f"no race: everything ended as {ends}"


def _race(services: Services, seed: int) -> tuple[str, dict[str, str]]:
    """Start all ends of one request at once; return its id and what each channel said."""
    chance = random.Random(seed)
    start = threading.Barrier(5)
    told: dict[str, str] = {}
    with httpx.Client(base_url=services.url, timeout=30) as client, ThreadPoolExecutor(4) as pool:
        producer = Producer(services.kafka.client("race") | {"linger.ms": 0})
        producer.list_topics(INFERENCE_RESULTS.name, timeout=10)  # connected before the race
        posted = client.post("/v1/recommendations", json={"history": ["1", "2"]})
        request_id = str(posted.json()["request_id"])
        path = f"/v1/recommendations/{request_id}"
        pause = {name: chance.choice((0, 0, 0.001, 0.003, 0.006)) for name in ("cancel", "expire")}

        def wait() -> None:
            start.wait()
            told["waiter"] = client.get(path, headers={"Prefer": "wait=20"}).json()["status"]

        def stream() -> None:
            start.wait()
            with client.stream("GET", f"{path}/events") as answer:
                told["stream"] = json.loads(list(read_events(answer.iter_lines()))[-1]["data"])["status"]

        def cancel() -> None:
            start.wait()
            threading.Event().wait(pause["cancel"])
            told["cancel"] = client.delete(path, headers={"Prefer": "wait=20"}).json()["status"]

        def expire() -> None:
            start.wait()
            threading.Event().wait(pause["expire"])
            value = encode(expired(uuid.UUID(request_id), "A test's."))
            producer.produce(INFERENCE_RESULTS.name, key=request_id.encode(), value=value)
            assert producer.flush(10) == 0

        running = [pool.submit(call) for call in (wait, stream, cancel, expire)]
        start.wait()
        for one in running:
            one.result()
    return request_id, told
