"""A ledger of requests sent while things break: what clients were told, against what Kafka and PostgreSQL hold.

    ledger = Ledger(url, per_second=20)
    with ledger.sending():
        ...                                  # kill something, start it again
    report = ledger.close(postgres, kafka)
    assert report.problems == []

It asks nothing of the stack but its addresses, so it serves processes, containers and clusters alike.
"""

import itertools
import random
import threading
import time
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import httpx
import psycopg
from confluent_kafka import Consumer, KafkaException, TopicPartition

from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings
from recstream.kafka.settings import KafkaSettings
from recstream.messages.codec import decode
from recstream.messages.inference import InferenceResult
from recstream.messages.topics import INFERENCE_RESULTS
from tests.waiting import eventually

_ENDED = frozenset({"COMPLETED", "FAILED", "EXPIRED", "CANCELLED"})


@dataclass(slots=True)
class Entry:
    """One request as its client saw it.

    Attributes:
        key: its Idempotency-Key; each attempt repeats it, so all attempts are one request.
        attempts: how often it was sent until an answer came, or the client gave up.
        request_id: what a 200 or 202 named; None where no such answer came: then the service promised nothing.
        status: how it ended, as the last GET said.
        items: the item ids of its result, in order.
        model_version: what its result names.
        refused: the status code of the last answer that was neither 200 nor 202.
    """

    key: str
    attempts: int = 0
    request_id: uuid.UUID | None = None
    status: str | None = None
    items: list[str] = field(default_factory=list)
    model_version: str | None = None
    refused: int | None = None

    def take(self, resource: dict[str, Any]) -> None:
        """Note what a body of the API says."""
        self.request_id, self.status = uuid.UUID(resource["request_id"]), resource["status"]
        if resource["result"] is not None:
            self.items = [item["item_id"] for item in resource["result"]["items"]]
            self.model_version = resource["result"]["model_version"]


@dataclass(frozen=True, slots=True)
class Report:
    """What the comparison found; the promises were kept where `problems` is empty.

    Attributes:
        accepted: requests that were answered 200 or 202.
        unanswered: requests that got no such answer, however often they were repeated.
        repeated: attempts beyond the first.
        statuses: how the accepted ones ended.
        versions: which models answered.
        duplicates: further records on the results' topic: work done twice, which at-least-once allows.
        problems: each broken promise in a sentence.
    """

    accepted: int
    unanswered: int
    repeated: int
    statuses: dict[str, int]
    versions: dict[str, int]
    duplicates: int
    problems: list[str]


class Ledger:
    """Sends requests at a bounded rate from a few threads, remembers every answer, and compares in the end."""

    def __init__(
        self,
        url: str,
        *,
        per_second: float = 20,
        threads: int = 4,
        at_most: int = 20_000,
        users: int = 100,
        patience_seconds: float = 60,
    ) -> None:
        """Describe the load; nothing is sent yet.

        Args:
            url: the API's, without a path.
            per_second: requests of all threads together, while answers come fast enough.
            threads: clients; each waits for its answer before it asks again.
            at_most: where the load ends by itself.
            users: requests name `user_1` to `user_<users>`.
            patience_seconds: how long a client repeats a request that got no answer, or 429 or 503.
        """
        self._url = url
        self._pause = threads / per_second
        self._threads = threads
        self._at_most = at_most
        self._users = users
        self._patience = patience_seconds
        self._numbers = itertools.count(1)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self.entries: list[Entry] = []

    @contextmanager
    def sending(self) -> Iterator[None]:
        """Send while the body runs; then wait until every client has its answer or has given up."""
        clients = [threading.Thread(target=self._send, name=f"client-{n}") for n in range(self._threads)]
        for client in clients:
            client.start()
        try:
            yield
        finally:
            self._stop.set()
            for client in clients:
                client.join()

    def answered(self) -> int:
        """Return how many requests have ended so far, as their clients know it."""
        return sum(entry.status in _ENDED for entry in list(self.entries))

    def latest_version(self) -> str | None:
        """Return the model that gave the latest answer."""
        return next((entry.model_version for entry in reversed(list(self.entries)) if entry.model_version), None)

    def close(self, postgres: PostgresSettings, kafka: KafkaSettings, *, within: float = 120) -> Report:
        """Wait until nothing is pending, ask for every accepted request once more, compare; call it after `sending`.

        Raises AssertionError where something stays PENDING or in the outbox for so many seconds.
        """
        with connect(postgres, "ledger") as connection:
            connection.autocommit = True

            def nothing_open() -> bool:
                pending = connection.execute("SELECT count(*) FROM predictions WHERE status = 'PENDING'").fetchone()
                waiting = connection.execute("SELECT count(*) FROM outbox").fetchone()
                return (pending, waiting) == ((0,), (0,))

            eventually(nothing_open, "an end of everything that is pending", within=within)
            self._ask_again()
            problems, statuses = self._compare_rows(connection)
        first, duplicates = _first_results(kafka, {entry.request_id for entry in self.entries if entry.request_id})
        problems += self._compare_records(first)
        accepted = [entry for entry in self.entries if entry.request_id is not None]
        return Report(
            accepted=len(accepted),
            unanswered=len(self.entries) - len(accepted),
            repeated=sum(entry.attempts - 1 for entry in self.entries),
            statuses=dict(statuses),
            versions=dict(Counter(entry.model_version or "none" for entry in accepted)),
            duplicates=duplicates,
            problems=problems,
        )

    def _send(self) -> None:
        # trust_env off: a proxy of the environment is for other addresses than this machine's own.
        with httpx.Client(base_url=self._url, timeout=10, trust_env=False) as client:
            while not self._stop.wait(random.uniform(0.5, 1.5) * self._pause):
                if (number := next(self._numbers)) > self._at_most:
                    return
                entry = Entry(key=f"ledger-{uuid.uuid4()}")
                with self._lock:
                    self.entries.append(entry)
                self._ask(client, entry, wait=number % 2 == 0)

    def _ask(self, client: httpx.Client, entry: Entry, *, wait: bool) -> None:
        """Post until there is an answer: half of the clients wait for the result, the others only for the 202."""
        headers = {"Idempotency-Key": entry.key} | ({"Prefer": "wait=5"} if wait else {})
        body = {"user_id": f"user_{random.randint(1, self._users)}", "k": 5}
        deadline = time.monotonic() + self._patience
        while time.monotonic() < deadline:
            entry.attempts += 1
            try:
                answer = client.post("/v1/recommendations", json=body, headers=headers)
            except httpx.TransportError:
                time.sleep(0.2)
                continue
            if answer.status_code in (200, 202):
                entry.take(answer.json())
                return
            entry.refused = answer.status_code
            if answer.status_code not in (429, 503):
                return
            time.sleep(0.2)

    def _ask_again(self) -> None:
        with httpx.Client(base_url=self._url, timeout=10, trust_env=False) as client:
            for entry in self.entries:
                if entry.request_id is None:
                    continue
                path, told = f"/v1/recommendations/{entry.request_id}", (entry.status, entry.items)
                entry.take(_ended(client, path))
                if told[0] in _ENDED and told != (entry.status, entry.items):
                    # Said twice, and differently: kept as a status of its own, which no row has.
                    entry.status = f"{told[0]} and then {entry.status}"

    def _compare_rows(self, connection: psycopg.Connection) -> tuple[list[str], Counter[str]]:
        ids = [entry.request_id for entry in self.entries if entry.request_id is not None]
        problems = [f"{request_id} answers {n} keys" for request_id, n in Counter(ids).items() if n > 1]
        problems += [f"{entry.key} was answered {entry.refused}" for entry in self.entries if _wrongly_refused(entry)]
        rows = {
            row[0]: row[1:]
            for row in connection.execute(
                """
                SELECT request_id, status, model_version, result_json
                FROM predictions WHERE request_id = ANY(%s)
                """,
                (ids,),
            )
        }
        for entry in self.entries:
            if entry.request_id is None:
                continue
            if entry.request_id not in rows:
                problems.append(f"{entry.request_id} was accepted and has no row")
                continue
            status, version, result = rows[entry.request_id]
            stored = [item["item_id"] for item in (result or {}).get("items", [])]
            if (status, version, stored) != (entry.status, entry.model_version, entry.items):
                told = f"{entry.status} by {entry.model_version}"
                problems.append(f"{entry.request_id}: the client was told {told}, the row says {status} by {version}")
        return problems, Counter(status for status, *_ in rows.values())

    def _compare_records(self, first: dict[uuid.UUID, InferenceResult]) -> list[str]:
        problems = []
        for entry in self.entries:
            if entry.request_id is None:
                continue
            record = first.get(entry.request_id)
            if record is None:
                problems.append(f"{entry.request_id} has no record on {INFERENCE_RESULTS.name}")
                continue
            items = [item.item_id for item in record.items]
            if (record.status.name, record.model_version, items) != (entry.status, entry.model_version, entry.items):
                problems.append(f"{entry.request_id}: told {entry.status}, its first record says {record.status.name}")
        return problems


def _wrongly_refused(entry: Entry) -> bool:
    """Whether a well-formed request was turned away for good: only 'not now' is a proper answer to one."""
    return entry.request_id is None and entry.refused not in (None, 429, 503)


def _ended(client: httpx.Client, path: str) -> dict[str, Any]:
    """Return the resource once it has ended, however often the API is away meanwhile."""

    def look() -> dict[str, Any]:
        try:
            answer = client.get(path)
        except httpx.TransportError:
            return {}
        resource: dict[str, Any] = answer.json() if answer.status_code == 200 else {}
        return resource if resource.get("status") in _ENDED else {}

    return eventually(look, f"the end of {path}", within=30)


def _first_results(kafka: KafkaSettings, wanted: set[uuid.UUID]) -> tuple[dict[uuid.UUID, InferenceResult], int]:
    """Return the first record of each wanted key in log order, and how many more records those keys have."""
    consumer = Consumer(kafka.consumer("ledger", "ledger-never-commits"))
    first: dict[uuid.UUID, InferenceResult] = {}
    duplicates = 0
    try:
        ends = {}
        for partition in range(INFERENCE_RESULTS.partitions):
            low, high = consumer.get_watermark_offsets(TopicPartition(INFERENCE_RESULTS.name, partition), timeout=30)
            if high > low:
                ends[partition] = (low, high)
        consumer.assign([TopicPartition(INFERENCE_RESULTS.name, number, low) for number, (low, _) in ends.items()])
        deadline = time.monotonic() + 120
        while ends and time.monotonic() < deadline:
            for record in consumer.consume(1_000, timeout=1):
                if (error := record.error()) is not None:
                    raise KafkaException(error)
                partition_number, offset = record.partition(), record.offset()
                assert partition_number is not None
                assert offset is not None
                if partition_number in ends and offset + 1 >= ends[partition_number][1]:
                    del ends[partition_number]
                result = decode(record.value(), InferenceResult)
                if result.request_id in first:
                    duplicates += 1
                elif result.request_id in wanted:
                    first[result.request_id] = result
        assert not ends, f"partitions {sorted(ends)} of {INFERENCE_RESULTS.name} were not read to their ends"
    finally:
        consumer.close()
    return first, duplicates
