"""The HTTP surface, answered by the whole pipeline."""

import asyncio
import contextlib
import http.client
import json
import time
import uuid

import httpx
import psycopg
import pytest

from tests.integration.conftest import ITEMS, Services, make_sasrec
from tests.waiting import eventually

pytestmark = pytest.mark.integration


def _is_problem(answer: httpx.Response, status: int) -> None:
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    body = answer.json()
    assert body["status"] == status
    assert {"type", "title", "detail"} <= body.keys()
    assert "Traceback" not in answer.text


def test_a_waited_request_is_answered_in_the_same_call(services: Services, postgres: psycopg.Connection) -> None:
    answer = services.recommend({"history": [10, "20", 30], "k": 7}, wait=5)
    assert answer.status_code == 200
    assert answer.headers["preference-applied"] == "wait=5"
    body = answer.json()
    assert body["status"] == "COMPLETED"
    result = body["result"]
    assert len(result["items"]) == 7
    assert not {"10", "20", "30"} & {item["item_id"] for item in result["items"]}, "seen items are left out"
    assert result["source"] == "sasrec"
    assert result["history_length"] == 3
    assert all(milliseconds >= 0 for milliseconds in result["timings_ms"].values())
    row = eventually(
        lambda: postgres.execute(
            "SELECT status, model_version, result_json FROM predictions WHERE request_id = %s AND status <> 'PENDING'",
            (body["request_id"],),
        ).fetchone()
    )
    assert row == ("COMPLETED", result["model_version"], result)
    looked_up = httpx.get(services.url + answer.headers["location"]).json()
    assert looked_up == body


def test_without_prefer_the_location_soon_answers(services: Services) -> None:
    answer = httpx.post(f"{services.url}/v1/recommendations", json={"history": ["1"]})
    assert answer.status_code == 202
    assert answer.headers["retry-after"] == "1"
    location = services.url + answer.headers["location"]
    assert answer.json()["status"] == "PENDING"
    ended = eventually(lambda: (found := httpx.get(location).json())["status"] != "PENDING" and found)
    assert isinstance(ended, dict)
    assert ended["status"] == "COMPLETED"


def test_a_get_waits_too(services: Services) -> None:
    location = httpx.post(f"{services.url}/v1/recommendations", json={"history": ["1"]}).headers["location"]
    assert httpx.get(services.url + location, headers={"Prefer": "wait=5"}).json()["status"] == "COMPLETED"


@pytest.mark.parametrize(
    ("history", "reason"), [([], "empty_history"), (["no-such-item", "nor-this"], "unknown_items")]
)
def test_without_a_known_item_popularity_answers_and_says_so(
    services: Services, history: list[str], reason: str
) -> None:
    result = services.recommend({"history": history, "k": 3}).json()["result"]
    assert (result["source"], result["reason"]) == ("popularity", reason)
    assert [item["item_id"] for item in result["items"]] == ITEMS[:3]
    assert result["unknown_items"] == len(history)


def test_an_unknown_user_gets_popularity(services: Services) -> None:
    answer = services.recommend({"user_id": f"nobody-{uuid.uuid4().hex}"})
    assert answer.json()["result"]["reason"] == "empty_history"


def test_exclusions_and_repetitions(services: Services) -> None:
    plain = services.recommend({"history": ["1", "2"], "k": 5}).json()["result"]["items"]
    first = plain[0]["item_id"]
    without = services.recommend({"history": ["1", "2"], "k": 5, "exclude": [first]}).json()["result"]["items"]
    assert [item["item_id"] for item in without][:4] == [item["item_id"] for item in plain[1:]]
    seen = services.recommend({"history": ["1", "2"], "k": 100, "exclude_seen": False}).json()["result"]["items"]
    everything = services.recommend({"history": ["1", "2"], "k": 100}).json()["result"]["items"]
    assert not {"1", "2"} & {item["item_id"] for item in everything}
    assert len(seen) == len(everything) == 100


def test_what_a_person_does_changes_the_next_request(services: Services, postgres: psycopg.Connection) -> None:
    user = f"u-{uuid.uuid4().hex}"
    event = {"user_id": user, "item_id": 5, "event_type": "like", "event_id": str(uuid.uuid4())}
    batch = {
        "interactions": [{"user_id": user, "item_id": "7"}, {"user_id": user, "item_id": "9", "event_type": "dismiss"}]
    }
    for body in (event, event, batch):
        answer = httpx.post(f"{services.url}/v1/interactions", json=body)
        assert answer.status_code == 202, answer.text
        assert answer.json()["event_ids"]
    eventually(
        lambda: postgres.execute("SELECT count(*) FROM interactions WHERE user_id = %s", (user,)).fetchone() == (3,),
        what="three rows, the repeated event once",
    )
    listed = httpx.get(f"{services.url}/v1/users/{user}/interactions").json()["interactions"]
    assert [entry["item_id"] for entry in listed] == ["9", "7", "5"]
    assert user in [
        entry["user_id"] for entry in httpx.get(f"{services.url}/v1/users", params={"prefix": user}).json()["users"]
    ]
    result = services.recommend({"user_id": user, "k": 100, "recent_items": ["11"]}).json()["result"]
    assert result["history_length"] == 3, "5 and 7 from the table, 11 from the request"
    assert not {"5", "7", "9", "11"} & {item["item_id"] for item in result["items"]}


def test_the_same_key_fifty_times_at_once_is_one_request(services: Services, postgres: psycopg.Connection) -> None:
    key = uuid.uuid4().hex

    async def post(body: dict[str, object]) -> list[httpx.Response]:
        async with httpx.AsyncClient(timeout=20) as client:
            return await asyncio.gather(
                *(
                    client.post(
                        f"{services.url}/v1/recommendations",
                        json=body,
                        headers={"Idempotency-Key": key, "Prefer": "wait=10"},
                    )
                    for _ in range(50)
                )
            )

    answers = asyncio.run(post({"history": ["1"]}))
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.json()["request_id"] for answer in answers}) == 1
    _is_problem(services.recommend({"history": ["2"]}, headers={"Idempotency-Key": key}), 422)
    counted = postgres.execute("SELECT count(*) FROM idempotency_keys WHERE key = %s", (key,)).fetchone()
    assert counted == (1,)


def test_users_are_paged(services: Services, postgres: psycopg.Connection) -> None:
    prefix = uuid.uuid4().hex
    postgres.execute("INSERT INTO users SELECT %s || n, now(), now() FROM generate_series(10, 34) AS n", (prefix,))
    found: list[str] = []
    cursor = None
    while True:
        parameters: dict[str, str | int] = {"prefix": prefix, "limit": 10}
        if cursor is not None:
            parameters["cursor"] = cursor
        page = httpx.get(f"{services.url}/v1/users", params=parameters).json()
        found += [user["user_id"] for user in page["users"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert found == [f"{prefix}{n}" for n in range(10, 35)]


def test_items_are_described_and_found(services: Services) -> None:
    item_id, word = uuid.uuid4().hex, uuid.uuid4().hex
    put = httpx.put(
        f"{services.url}/v1/items/{item_id}", json={"title": f"The {word.upper()} 100%", "genres": ["Drama"]}
    )
    assert put.status_code == 200
    found = httpx.get(f"{services.url}/v1/items", params={"title": f"{word} 100%"}).json()["items"]
    assert found == [{"item_id": item_id, "title": f"The {word.upper()} 100%", "genres": ["Drama"]}]
    assert httpx.get(f"{services.url}/v1/items", params={"ids": f"nothing,{item_id}"}).json()["items"] == found
    _is_problem(httpx.get(f"{services.url}/v1/items"), 422)


def test_models_are_listed_and_promoted(services: Services) -> None:
    live = next(m for m in httpx.get(f"{services.url}/v1/models").json()["models"] if m["status"] == "live")
    newer = services.announce(make_sasrec(services.checkpoints, seed=1), {"ndcg@10": 0.5})
    services.await_version(newer.model_version)
    assert services.recommend({"history": ["1"]}).json()["result"]["model_version"] == newer.model_version
    promoted = httpx.post(f"{services.url}/v1/models/{live['version']}/promote")
    assert promoted.status_code == 200
    assert promoted.json()["generation"] > newer.generation
    services.await_version(live["version"])
    _is_problem(httpx.post(f"{services.url}/v1/models/sasrec-none/promote"), 404)


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 422),
        (b"{", 400),
        (b"null", 422),
        (b"[]", 422),
        (b"{}", 422),
        (b'{"history": [], "k": NaN}', 400),
        (b'{"history": [], "k": Infinity}', 400),
        (b'{"history": [], "k": 0}', 422),
        (b'{"history": [], "k": 101}', 422),
        (b'{"history": [], "k": "10"}', 422),
        (b'{"history": [], "k": true}', 422),
        (b'{"history": [], "k": 9223372036854775808}', 422),
        (b'{"history": [], "k": 1' + b"0" * 5000 + b"}", 400),
        (b'{"history": [1' + b"0" * 100 + b"]}", 422),
        (b'{"history": [true]}', 422),
        (b'{"history": [1.5]}', 422),
        (b'{"history": [null]}', 422),
        (b'{"history": [""]}', 422),
        (b'{"history": ["a/b"]}', 422),
        (b'{"history": ["secret\\u0000"]}', 422),
        (b'{"history": ["secret\\ud800"]}', 400),
        (b'{"history": ["\xff\xfe"]}', 400),
        (b'{"user_id": "a b"}', 422),
        (b'{"user_id": "secret\\u0000"}', 422),
        (b'{"user_id": 5}', 422),
        (b'{"user_id": "' + b"x" * 65 + b'"}', 422),
        (b'{"user_id": "u", "secret": 1}', 422),
        (b'{"user_id": "u", "\\u0000": 1}', 422),
        (b'{"history": ' + b"[" * 20_000 + b"]" * 20_000 + b"}", 400),
        (json.dumps({"history": ["1"] * 1001}).encode(), 422),
        (json.dumps({"history": [], "exclude": ["1"] * 501}).encode(), 422),
    ],
    ids=lambda value: repr(value[:40]) if isinstance(value, bytes) else str(value),
)
def test_bad_bodies_get_a_clear_answer_and_no_echo(services: Services, body: bytes, status: int) -> None:
    answer = httpx.post(
        f"{services.url}/v1/recommendations", content=body, headers={"Content-Type": "application/json"}
    )
    _is_problem(answer, status)
    assert "secret" not in answer.text


def test_a_history_at_the_limit_is_taken(services: Services) -> None:
    assert services.recommend({"history": ["1"] * 1000}).status_code == 200


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/recommendations/not-a-uuid", 422),
        ("GET", f"/v1/recommendations/{uuid.uuid4()}", 404),
        ("GET", "/v1/users?prefix=%00", 422),
        ("GET", "/v1/users?prefix=%ED%A0%80", 200),
        ("GET", "/v1/users?limit=9223372036854775808", 422),
        ("GET", "/v1/users?cursor=%00", 422),
        ("GET", "/v1/users/a%00b/interactions", 422),
        ("GET", "/v1/items?title=%00", 422),
        ("GET", "/v1/items?ids=%00", 422),
        ("GET", "/v1/items?title=%27%3B%20DROP%20TABLE%20items%3B--", 200),
        ("PUT", "/v1/recommendations", 405),
        ("GET", "/nowhere", 404),
        ("POST", "/v1/models/%00/promote", 422),
    ],
)
def test_bad_paths_and_queries(services: Services, method: str, path: str, status: int) -> None:
    answer = httpx.request(method, services.url + path)
    if status >= 400:
        _is_problem(answer, status)
    else:
        assert answer.status_code == status


@pytest.mark.parametrize("key", ["", "a b", "x" * 256])
def test_bad_idempotency_keys(services: Services, key: str) -> None:
    _is_problem(services.recommend({"history": []}, headers={"Idempotency-Key": key}), 400)


@pytest.mark.parametrize(
    "event",
    [
        {"user_id": "u", "item_id": "1", "weight": "heavy"},
        {"user_id": "u", "item_id": "1", "event_type": "stare"},
        {"user_id": "u", "item_id": "1", "occurred_at": "2026-01-01T00:00:00"},
        {"user_id": "u", "item_id": "1", "occurred_at": "9999-12-31T23:59:59Z"},
        {"user_id": "u", "item_id": "1", "occurred_at": "0001-01-01T00:00:00Z"},
        {"user_id": "u", "item_id": True},
        {"interactions": []},
        {"interactions": [{"user_id": "u"}]},
    ],
)
def test_bad_interactions(services: Services, event: dict[str, object]) -> None:
    _is_problem(httpx.post(f"{services.url}/v1/interactions", json=event), 422)


def test_a_body_too_large_is_refused_declared_and_chunked(services: Services) -> None:
    large = b'{"history": ["' + b"x" * 10_000_000 + b'"]}'
    headers = {"Content-Type": "application/json"}
    for content in (large, (large[i : i + 65536] for i in range(0, len(large), 65536))):
        connection = http.client.HTTPConnection("127.0.0.1", services.infrastructure.ports.api, timeout=20)
        chunked = not isinstance(content, bytes)
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # refused before all of it was read
            connection.request("POST", "/v1/recommendations", content, headers, encode_chunked=chunked)
        try:
            assert connection.getresponse().status == 413
        except (ConnectionResetError, http.client.RemoteDisconnected):
            assert isinstance(content, bytes), "a chunked body is refused with an answer"
        finally:
            connection.close()
    assert services.recommend({"history": ["1"]}).status_code == 200


def test_health_metrics_and_documentation(services: Services) -> None:
    assert httpx.get(f"{services.url}/health/live").json() == {"status": "live"}
    assert httpx.get(f"{services.url}/health/ready").json()["checks"] == {"postgres": True, "backlog": True}
    metrics = httpx.get(f"{services.url}/metrics").text
    assert 'http_requests_total{method="POST",route="/v1/recommendations",status="200"}' in metrics
    assert "/v1/recommendations/{request_id}" in metrics
    assert httpx.get(f"{services.url}/docs").status_code == 200
    assert httpx.get(f"{services.url}/openapi.json").json()["info"]["title"] == "Recstream"


def test_a_request_whose_api_died_before_producing_is_published_by_the_relay(
    services: Services, postgres: psycopg.Connection
) -> None:
    """RELIABILITY row 7: the transaction is there, the produce never happened."""
    request_id = uuid.UUID(int=(int(time.time() * 1000) << 80) | (7 << 76) | (2 << 62) | 1)
    body = json.dumps({"request_id": str(request_id), "history": ["1"], "k": 3})
    with postgres.transaction():
        postgres.execute(
            "INSERT INTO predictions (request_id, status, request_json, created_at) VALUES (%s, 'PENDING', %s, now())",
            (request_id, body),
        )
        postgres.execute(
            "INSERT INTO outbox (topic, key, payload) VALUES ('inference.requests', %s, %s)",
            (str(request_id).encode(), body.encode()),
        )
    eventually(
        lambda: (
            postgres.execute("SELECT status FROM predictions WHERE request_id = %s", (request_id,)).fetchone()
            == ("COMPLETED",)
        ),
        within=40,
        what="the relay, after its grace",
    )
    eventually(lambda: postgres.execute("SELECT count(*) FROM outbox").fetchone() == (0,), what="an empty outbox")
