"""Reading from a real PostgreSQL."""

import tracemalloc
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
import pytest

from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings
from recstream.ops.clock import from_us
from trainer.interactions import Interactions, read_interactions
from trainer.lock import AlreadyTraining, only_training

pytestmark = pytest.mark.integration

START = datetime(2026, 1, 1, tzinfo=UTC)


def insert(database: PostgresSettings, rows: Sequence[tuple[str, str, int, str]]) -> None:
    """Insert (user, item, minute, event type) in this order."""
    with connect(database, "tests") as connection, connection.cursor() as cursor:
        cursor.executemany(
            "INSERT INTO interactions (event_id, user_id, item_id, created_at, event_type) VALUES (%s, %s, %s, %s, %s)",
            [
                (uuid.uuid4(), user, item, START + timedelta(minutes=minute), event_type)
                for user, item, minute, event_type in rows
            ],
        )


def read(database: PostgresSettings, min_item_count: int = 1) -> Interactions:
    with connect(database, "tests") as connection:
        return read_interactions(connection, min_item_count=min_item_count)


def by_user(data: Interactions, values: npt.NDArray[Any]) -> list[list[int]]:
    return [values[start:end].tolist() for start, end in pairwise(data.offsets)]


def histories(data: Interactions) -> list[list[str]]:
    return [[data.item_ids[code - 1] for code in codes] for codes in by_user(data, data.codes)]


def test_histories_stand_in_the_order_of_time_and_then_of_arrival(database: PostgresSettings) -> None:
    insert(
        database,
        [
            ("bob", "20", 5, "view"),
            ("alice", "9", 3, "purchase"),
            ("alice", "30", 1, "like"),
            ("alice", "10", 2, "view"),
            ("bob", "30", 5, "rating"),
            ("alice", "30", 9, "dismiss"),
            ("bob", "10", 5, "view"),
            ("alice", "1", 2, "view"),
        ],
    )
    data = read(database)
    assert sorted(histories(data)) == [["20", "30", "10"], ["30", "10", "1", "9"]]
    assert data.codes.dtype == np.int32
    assert data.times is not None
    minutes = [
        [(from_us(time) - START) // timedelta(minutes=1) for time in times] for times in by_user(data, data.times)
    ]
    assert sorted(minutes) == [[1, 2, 2, 3], [5, 5, 5]]
    assert sorted(data.item_ids) == ["1", "10", "20", "30", "9"]
    assert data.window.first_at == START + timedelta(minutes=1)
    assert data.window.last_at == START + timedelta(minutes=5)
    assert (data.window.interactions, data.window.users, data.window.items) == (7, 2, 5)


def test_rare_items_are_left_out_when_asked(database: PostgresSettings) -> None:
    rows = [("a", "often", 1, "view"), ("a", "rare", 2, "view"), ("b", "often", 3, "view"), ("c", "once", 4, "view")]
    insert(database, rows)
    data = read(database, min_item_count=2)
    assert data.item_ids == ("often",)
    assert histories(data) == [["often"], ["often"]]
    assert data.window.last_at == START + timedelta(minutes=3)


def test_nothing_to_read(database: PostgresSettings) -> None:
    insert(database, [("a", "x", 1, "dismiss")])
    data = read(database)
    assert (data.n_users, data.n_items, len(data.codes)) == (0, 0, 0)
    assert (data.window.first_at, data.window.last_at) == (None, None)


def test_a_long_history_comes_whole_and_progress_is_told(database: PostgresSettings) -> None:
    with connect(database, "tests") as connection:
        connection.execute(
            """
            INSERT INTO interactions (event_id, user_id, item_id, created_at, event_type)
            SELECT gen_random_uuid(), CASE WHEN n <= 50000 THEN 'keen' ELSE 'user-' || n / 2 END, 'item-' || n % 1000,
                   timestamptz '2026-01-01Z' + make_interval(secs => n), 'view'
            FROM generate_series(1, 60000) AS n
            """
        )
    told: list[tuple[int, int]] = []
    with connect(database, "tests") as connection:
        data = read_interactions(connection, on_progress=lambda done, total: told.append((done, total)))
    keen = max(histories(data), key=len)
    assert keen == [f"item-{n % 1000}" for n in range(1, 50_001)]
    assert len(data.codes) == 60_000
    assert data.n_users == 5_002
    assert [total for _, total in told] == [60_000] * 4
    assert told == sorted(told)


def test_memory_holds_numbers_and_no_python_objects(database: PostgresSettings) -> None:
    """12 bytes a row and something for each message; a list of 200,000 ints alone would be 7 MB."""
    with connect(database, "tests") as connection:
        connection.execute(
            """
            INSERT INTO interactions (event_id, user_id, item_id, created_at, event_type)
            SELECT gen_random_uuid(), 'user-' || n % 500, 'item-' || n % 70, now(), 'view'
            FROM generate_series(1, 200000) AS n
            """
        )
    with connect(database, "tests") as connection:
        tracemalloc.start()
        try:
            data = read_interactions(connection)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert data.times is not None
    assert data.codes.nbytes + data.times.nbytes == 2_400_000
    assert peak < 3_600_000


def test_the_connection_is_left_clean(database: PostgresSettings) -> None:
    insert(database, [("a", "x", 1, "view")])
    with connect(database, "tests") as connection:
        first = read_interactions(connection)
        assert histories(read_interactions(connection)) == histories(first) == [["x"]]
        assert connection.info.transaction_status == psycopg.pq.TransactionStatus.IDLE


def test_one_training_at_a_time(database: PostgresSettings) -> None:
    with connect(database, "tests") as first, only_training(first):
        with (
            connect(database, "tests") as second,
            pytest.raises(AlreadyTraining, match="Another training"),
            only_training(second),
        ):
            pass
        assert first.info.transaction_status == psycopg.pq.TransactionStatus.IDLE
    with connect(database, "tests") as third, only_training(third):
        pass
