"""Bad records, several workers, sudden deaths and hot reloads, on the running services."""

import json
import threading
import uuid
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import psycopg
import pytest
from confluent_kafka import Message, Producer

from recstream.kafka.records import headers_of
from recstream.kafka.tail import Start, Tail
from recstream.messages.codec import encode
from recstream.messages.control import AnnouncementReason, ModelAnnounced
from recstream.messages.envelope import header
from recstream.messages.identifiers import new_request_id
from recstream.messages.topics import (
    ACTIVITY_EVENTS,
    CONTROL_KEY,
    INFERENCE_REQUESTS,
    INFERENCE_RESULTS,
    SYSTEM_CONTROL,
    Topic,
)
from recstream.model.manifest import WEIGHTS
from recstream.ops.clock import utc_now
from tests.integration.conftest import Services, make_sasrec
from tests.waiting import eventually

pytestmark = pytest.mark.integration


@pytest.fixture
def plain(services: Services) -> Producer:
    """Return a producer that checks nothing."""
    return Producer(services.kafka.client("tests"))


class _Letters:
    """What arrives on a dead-letter topic from now on."""

    def __init__(self, services: Services, topic: Topic) -> None:
        self.records: list[Message] = []
        self.tail = Tail(services.kafka, f"t-{topic.name}", topic.dead_letters.name, Start.END, self.records.extend)
        self.tail.start()
        assert self.tail.wait_ready(20)

    def reasons(self) -> Counter[str | None]:
        """Count the records by reason."""
        return Counter(header(headers_of(record), "dlq_reason") for record in self.records)


@pytest.fixture
def letters(services: Services) -> Iterator[dict[str, _Letters]]:
    """Return the dead letters of each topic, from now on."""
    found = {
        topic.name: _Letters(services, topic) for topic in (INFERENCE_REQUESTS, INFERENCE_RESULTS, ACTIVITY_EVENTS)
    }
    yield found
    for one in found.values():
        one.tail.close()


def _pending(postgres: psycopg.Connection, request_id: uuid.UUID) -> None:
    postgres.execute(
        "INSERT INTO predictions (request_id, status, request_json, created_at) VALUES (%s, 'PENDING', '{}', now())",
        (request_id,),
    )


def _status(postgres: psycopg.Connection, request_id: uuid.UUID) -> str:
    row = postgres.execute("SELECT status FROM predictions WHERE request_id = %s", (request_id,)).fetchone()
    assert row is not None
    return str(row[0])


def test_bad_requests_are_set_aside_and_their_neighbours_complete(
    services: Services, postgres: psycopg.Connection, plain: Producer, letters: dict[str, _Letters]
) -> None:
    by_key, by_body, neighbour = new_request_id(), new_request_id(), new_request_id()
    for request_id in (by_key, by_body, neighbour):
        _pending(postgres, request_id)
    topic = INFERENCE_REQUESTS.name
    plain.produce(topic, key=str(by_key).encode(), value=b"\xff not json")
    plain.produce(topic, key=b"?", value=json.dumps({"request_id": str(by_body), "k": "many"}).encode())
    plain.produce(topic, key=b"?", value=None)
    plain.produce(topic, key=b"?", value=b"{}", headers={"ce_type": b"recstream.inference.requested.v9"})
    good = {"request_id": str(neighbour), "history": ["1"], "k": 2}
    plain.produce(topic, key=str(neighbour).encode(), value=json.dumps(good).encode())
    plain.flush()
    eventually(lambda: _status(postgres, neighbour) == "COMPLETED")
    eventually(lambda: _status(postgres, by_key) == "FAILED")
    eventually(lambda: _status(postgres, by_body) == "FAILED")
    failed = httpx.get(f"{services.url}/v1/recommendations/{by_key}").json()
    assert failed["error"]["type"] == "/problems/bad-record"
    expected = {"malformed": 2, "empty": 1, "unknown_type": 1}
    eventually(lambda: letters[topic].reasons() == expected, what=f"{expected}")
    first = next(record for record in letters[topic].records if record.key() == str(by_key).encode())
    assert first.value() == b"\xff not json", "the original bytes"
    assert header(headers_of(first), "dlq_topic") == topic


def test_bad_results_and_results_of_nobody_are_set_aside(
    services: Services, postgres: psycopg.Connection, plain: Producer, letters: dict[str, _Letters]
) -> None:
    known, spoilt = new_request_id(), new_request_id()
    for request_id in (known, spoilt):
        _pending(postgres, request_id)
    topic = INFERENCE_RESULTS.name
    plain.produce(topic, key=b"?", value=b"nothing")
    plain.produce(topic, key=b"?", value=None)
    nobody = str(new_request_id())
    plain.produce(topic, key=nobody.encode(), value=_completed(nobody))
    # In another partition than the request's own records, so that no order would hold between them.
    plain.produce(topic, key=b"?", value=_completed(str(spoilt)))
    # jsonb cannot hold NUL: PostgreSQL refuses this one, and it alone.
    plain.produce(topic, key=str(spoilt).encode(), value=_completed(str(spoilt), reason="\x00"))
    # Nor a lone surrogate; only PostgreSQL itself finds this one.
    plain.produce(topic, key=str(spoilt).encode(), value=_completed(str(spoilt))[:-1] + b', "x": "\\ud800"}')
    plain.produce(topic, key=str(known).encode(), value=_completed(str(known), model_version="m"))
    plain.flush()
    eventually(lambda: _status(postgres, known) == "COMPLETED")
    eventually(lambda: letters[topic].reasons() == {"malformed": 4, "empty": 1, "unknown_request": 1})
    assert _status(postgres, spoilt) == "PENDING"
    assert httpx.get(f"{services.url}/v1/recommendations/{spoilt}").json()["status"] == "PENDING"
    plain.produce(topic, key=str(spoilt).encode(), value=_completed(str(spoilt)))
    plain.flush()
    eventually(lambda: _status(postgres, spoilt) == "COMPLETED")


def _completed(request_id: str, **members: str) -> bytes:
    return json.dumps({"request_id": request_id, "status": "completed", **members}).encode()


def test_bad_activity_is_set_aside(
    services: Services, postgres: psycopg.Connection, plain: Producer, letters: dict[str, _Letters]
) -> None:
    user, topic = f"u-{uuid.uuid4().hex}", ACTIVITY_EVENTS.name
    event = {
        "event_id": str(uuid.uuid4()),
        "user_id": user,
        "item_id": "1",
        "event_type": "view",
        "occurred_at": "2026-11-21T00:00:00Z",
    }
    for value in (b"[]", json.dumps(event | {"user_id": "a\x00b"}).encode(), json.dumps(event).encode()):
        plain.produce(topic, key=user.encode(), value=value)
    plain.flush()
    eventually(
        lambda: postgres.execute("SELECT count(*) FROM interactions WHERE user_id = %s", (user,)).fetchone() == (1,)
    )
    eventually(lambda: letters[topic].reasons() == {"malformed": 2})


def test_a_row_that_has_ended_never_changes(services: Services, postgres: psycopg.Connection, plain: Producer) -> None:
    body = services.recommend({"history": ["3"]}).json()
    request_id = uuid.UUID(body["request_id"])
    eventually(lambda: _status(postgres, request_id) == "COMPLETED")
    query = "SELECT predictions::text FROM predictions WHERE request_id = %s"
    before = postgres.execute(query, (request_id,)).fetchone()
    late = {"request_id": str(request_id), "status": "failed", "error": {"type": "x", "title": "x", "detail": "x"}}
    plain.produce(INFERENCE_RESULTS.name, key=str(request_id).encode(), value=json.dumps(late).encode())
    again = postgres.execute(
        "SELECT request_json::text FROM predictions WHERE request_id = %s", (request_id,)
    ).fetchone()
    assert again is not None
    plain.produce(INFERENCE_REQUESTS.name, key=str(request_id).encode(), value=again[0].encode())
    plain.flush()
    assert services.recommend({"history": ["3"]}).status_code == 200
    marker = services.recommend({"history": ["4"]}).json()["request_id"]
    eventually(lambda: _status(postgres, uuid.UUID(marker)) == "COMPLETED")
    assert postgres.execute(query, (request_id,)).fetchone() == before
    assert httpx.get(f"{services.url}/v1/recommendations/{request_id}").json() == body


def test_workers_share_the_load_and_a_killed_one_loses_nothing(
    services: Services, postgres: psycopg.Connection
) -> None:
    second = services.start_worker("worker-2")
    eventually(lambda: services.workers().get("worker-2", {}).get("model_version"), what="the second worker's report")
    eventually(lambda: "kafka.assigned" in second.log.read_text(), what="the second worker's share")
    accepted: list[str] = []
    failures: list[object] = []
    done = threading.Event()

    def send() -> None:
        with httpx.Client(timeout=20) as client:
            while not done.is_set():
                answer = client.post(f"{services.url}/v1/recommendations", json={"history": ["1", "2"]})
                if answer.status_code == 202:
                    accepted.append(answer.json()["request_id"])
                else:
                    failures.append(answer.text)

    with ThreadPoolExecutor(4) as pool:
        senders = [pool.submit(send) for _ in range(4)]
        eventually(lambda: len(accepted) > 300, what="some load")
        second.kill()
        killed_at = len(accepted)
        eventually(lambda: len(accepted) > killed_at + 300, what="load after the kill")
        done.set()
        for sender in senders:
            sender.result()
    assert failures == []
    count = "SELECT count(*) FROM predictions WHERE status = 'COMPLETED' AND request_id = ANY(%s::uuid[])"
    eventually(
        lambda: postgres.execute(count, (accepted,)).fetchone() == (len(accepted),),
        within=60,
        what="every accepted request completed, those of the killed worker too",
    )
    assert second.popen.returncode == -9


def test_a_hot_reload_under_load_costs_no_request(services: Services) -> None:
    new = make_sasrec(services.checkpoints, seed=2)
    versions: list[str] = []
    failures: list[str] = []
    done = threading.Event()

    def send() -> None:
        with httpx.Client(timeout=20) as client:
            while not done.is_set():
                answer = client.post(
                    f"{services.url}/v1/recommendations", json={"history": ["1", "2"]}, headers={"Prefer": "wait=10"}
                )
                if answer.status_code == 200 and answer.json()["status"] == "COMPLETED":
                    versions.append(answer.json()["result"]["model_version"])
                else:
                    failures.append(answer.text)

    with ThreadPoolExecutor(4) as pool:
        senders = [pool.submit(send) for _ in range(4)]
        eventually(lambda: len(versions) > 50)
        old = versions[0]
        announced = services.announce(new)
        eventually(lambda: versions[-1] == announced.model_version, what="answers of the new version")
        done.set()
        for sender in senders:
            sender.result()
    assert failures == []
    assert set(versions) == {old, announced.model_version}


def test_a_broken_bundle_is_rejected_and_the_old_model_goes_on(services: Services) -> None:
    before = services.recommend({"history": ["1"]}).json()["result"]["model_version"]
    broken = make_sasrec(services.checkpoints, seed=3)
    weights = services.checkpoints / broken.folder / WEIGHTS
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    try:
        announced = services.announce(broken)
        status = eventually(
            lambda: (w := services.workers()["worker-1"])["announced_version"] == announced.model_version and w
        )
        assert isinstance(status, dict)
        assert status["state"] == "rejected"
        assert "SHA-256" in str(status["detail"])
        assert status["model_version"] == before
        assert services.recommend({"history": ["1"]}).json()["result"]["model_version"] == before
        # A worker that starts now cannot load it either, and serves the version named as the fallback.
        third = services.start_worker("worker-3")
        found = eventually(lambda: (w := services.workers().get("worker-3", {})).get("model_version") and w)
        assert isinstance(found, dict)
        assert (found["state"], found["model_version"]) == ("rejected", before)
        assert third.terminate() == 0
        eventually(lambda: "worker-3" not in services.workers(), what="a clean leave")
    finally:
        services.announce(make_sasrec(services.checkpoints, seed=0))


def test_forged_and_outdated_announcements_change_nothing(services: Services, plain: Producer) -> None:
    current = services.announce(make_sasrec(services.checkpoints, seed=4))
    services.await_version(current.model_version)
    escaping = ModelAnnounced(
        epoch=current.epoch,
        generation=current.generation + 1,
        model_version="../../x",
        folder="../../x",
        manifest_sha256="0" * 64,
        reason=AnnouncementReason.TRAINED,
        announced_at=utc_now(),
    )
    for value in (b"nonsense", None, encode(_outdated(current)), encode(escaping)):
        plain.produce(SYSTEM_CONTROL.name, key=CONTROL_KEY, value=value)
    plain.flush()
    eventually(lambda: services.workers()["worker-1"]["announced_version"] == "../../x")
    assert services.workers()["worker-1"]["state"] == "rejected"
    assert services.recommend({"history": ["1"]}).json()["result"]["model_version"] == current.model_version
    # The sequence has not passed the forged generation yet: one more announcement ties with it, the next is newer.
    for seed in (5, 6):
        last = services.announce(make_sasrec(services.checkpoints, seed=seed))
    services.await_version(last.model_version)


def _outdated(current: ModelAnnounced) -> ModelAnnounced:
    return ModelAnnounced(
        epoch=current.epoch,
        generation=current.generation - 1,
        model_version="older",
        folder="older",
        manifest_sha256="0" * 64,
        reason=AnnouncementReason.TRAINED,
        announced_at=utc_now(),
    )


def test_services_end_cleanly_on_sigterm_and_go_on_where_they_were(
    services: Services, postgres: psycopg.Connection
) -> None:
    worker = services.start_worker("worker-4")
    eventually(lambda: services.workers().get("worker-4", {}).get("model_version"))
    assert worker.terminate() == 0
    writer = next(process for process in services.processes if process.name == "db_writer")
    assert writer.terminate() == 0
    # The writer's rows wait on the topic; the API answers from its tail meanwhile.
    body = services.recommend({"history": ["8"]}).json()
    assert body["status"] == "COMPLETED"
    request_id = uuid.UUID(body["request_id"])
    assert _status(postgres, request_id) == "PENDING"
    assert httpx.get(f"{services.url}/v1/recommendations/{request_id}").json()["status"] == "COMPLETED"
    services.start("db_writer", "db_writer", services.env)
    eventually(lambda: _status(postgres, request_id) == "COMPLETED")


def test_nothing_is_left_pending(services: Services, postgres: psycopg.Connection) -> None:
    eventually(
        lambda: postgres.execute("SELECT count(*) FROM predictions WHERE status = 'PENDING'").fetchone() == (0,),
        what="no PENDING row once the queue is empty",
    )
