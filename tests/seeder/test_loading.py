"""Imports into a real PostgreSQL."""

import io
import signal
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import psycopg
import pytest
from rich.console import Console

from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings
from recstream.ops.interruption import Interrupted, Interruption
from seeder import loading
from seeder.custom_csv import CsvOptions, open_csv
from seeder.event_ids import event_ids
from seeder.loading import Mode, Outcome, load
from seeder.movielens import open_movielens
from seeder.problem import SeedingProblem
from seeder.records import Catalogue, Interaction, Interactions, Item
from seeder.sources import Feed, Source
from seeder.staging import _encode_text
from seeder.synthetic import SyntheticSettings, SyntheticSource

pytestmark = pytest.mark.integration

_US = 1_600_000_000_000_000
_HOUR_US = 3_600_000_000


class Rows:
    """A source of given rows, in blocks of three; `fail` raises after the last."""

    def __init__(
        self,
        rows: Sequence[Interaction],
        items: Sequence[Item] = (),
        catalogue: Catalogue | None = None,
        fail: BaseException | None = None,
    ) -> None:
        self.catalogue = catalogue or Catalogue("csv", "rows.csv")
        self._rows, self._items, self._fail = rows, items, fail

    def items(self) -> Feed[Item] | None:
        return Feed("items", iter(self._items), len(self._items), lambda: 0) if self._items else None

    def interactions(self) -> Feed[Interactions]:
        def blocks() -> Iterator[Interactions]:
            yield from Interactions.batches(self._rows, 3)
            if self._fail is not None:
                raise self._fail

        return Feed("rows", blocks(), len(self._rows), lambda: 0)


def row(user: str, item: str, at_us: int = _US, event_type: str = "view", weight: float = 1.0) -> Interaction:
    return Interaction(user, item, event_type, weight, at_us)


@pytest.fixture
def connection(database: PostgresSettings) -> Iterator[psycopg.Connection]:
    with connect(database, "seeder") as connection:
        yield connection


@pytest.fixture(params=["row by row", "indexes last"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Both ways to write: few rows, and many into an empty table."""
    if request.param == "indexes last":
        monkeypatch.setattr(loading, "_ROWS_WORTH_A_LOCK", 1)
    return str(request.param)


def run(connection: psycopg.Connection, source: Source, mode: Mode = Mode.REFUSE) -> Outcome:
    return load(connection, source, mode, Console(file=io.StringIO()), Interruption("Interrupted."))


def stored(connection: psycopg.Connection, columns: str = "user_id, item_id") -> list[tuple[object, ...]]:
    with connection.transaction():
        return connection.execute(f"SELECT {columns} FROM interactions ORDER BY id").fetchall()


def count(connection: psycopg.Connection, table: str) -> int:
    with connection.transaction():
        found = connection.execute(f"SELECT count(*) FROM {table}").fetchone()
    assert found is not None
    return int(found[0])


def definitions(connection: psycopg.Connection) -> list[tuple[str, ...]]:
    with connection.transaction():
        return connection.execute(
            """
            SELECT indexname, indexdef FROM pg_indexes WHERE tablename = 'interactions'
            UNION ALL SELECT conname, pg_get_constraintdef(oid) FROM pg_constraint
            WHERE conrelid = 'interactions'::regclass ORDER BY 1, 2
            """
        ).fetchall()


@pytest.mark.usefixtures("way")
def test_every_column_arrives(connection: psycopg.Connection) -> None:
    rows = [row("anna", "10", _US + 123_456, "rating", 3.5), row("böb\\", "x\u00e9", -_US, "dismiss", -0.25)]
    outcome = run(connection, Rows(rows, [Item("10", 'Ten\t\\N "1"', ("A,b", "C"))]))
    assert (outcome.read, outcome.new, outcome.users, outcome.items) == (2, 2, 2, 1)
    found = stored(connection, "user_id, item_id, event_type, weight, created_at")
    assert found == [
        ("anna", "10", "rating", 3.5, datetime(2020, 9, 13, 12, 26, 40, 123_456, UTC)),
        ("böb\\", "x\u00e9", "dismiss", -0.25, datetime(1919, 4, 20, 11, 33, 20, tzinfo=UTC)),
    ]
    texts = [b"".join(map(_encode_text, (each.event_type, each.user_id, each.item_id))) for each in rows]
    expected = [(uuid.UUID(bytes=bytes(each)),) for each in event_ids(Interactions.of(rows), texts)]
    assert stored(connection, "event_id") == expected
    with connection.transaction():
        assert connection.execute("SELECT item_id, title, genres FROM items").fetchall() == [
            ("10", 'Ten\t\\N "1"', ["A,b", "C"])
        ]


@pytest.mark.usefixtures("way")
def test_a_second_run_adds_nothing(connection: psycopg.Connection) -> None:
    rows = [row(f"u{number % 3}", str(number)) for number in range(10)]
    run(connection, Rows(rows, [Item("1", "One", ())]))
    before = stored(connection, "id, event_id")
    again = run(connection, Rows(rows, [Item("1", "One", ())]))
    assert (again.read, again.new) == (10, 0)
    assert stored(connection, "id, event_id") == before
    assert (count(connection, "users"), count(connection, "items"), count(connection, "data_sources")) == (3, 1, 1)


@pytest.mark.usefixtures("way")
def test_a_continued_file_adds_what_is_new(connection: psycopg.Connection) -> None:
    rows = [row("u", str(number)) for number in range(10)]
    run(connection, Rows(rows[:6]))
    outcome = run(connection, Rows(rows, catalogue=Catalogue("csv", "renamed.csv")))
    assert (outcome.read, outcome.new) == (10, 4)
    assert [item for _, item in stored(connection)] == [str(number) for number in range(10)]


@pytest.mark.usefixtures("way")
def test_identical_rows_are_kept_apart_and_recognised(connection: psycopg.Connection) -> None:
    rows = [row("u", "1"), row("u", "2"), row("u", "1"), row("u", "1"), row("v", "1")]
    assert run(connection, Rows(rows)).new == 5
    assert len(set(stored(connection, "event_id"))) == 5
    assert run(connection, Rows(rows)).new == 0
    # One more of the same is one more.
    assert run(connection, Rows([*rows, row("u", "1")])).new == 1


@pytest.mark.usefixtures("way")
def test_ids_follow_the_order_of_the_source(connection: psycopg.Connection) -> None:
    """Users mixed, times tied and even falling: the id alone breaks ties, so it must tell the order of arrival."""
    rows = [row(f"u{7 - number % 7}", str(100 - number), _US - number // 5) for number in range(60)]
    run(connection, Rows(rows))
    assert stored(connection) == [(each.user_id, each.item_id) for each in rows]
    with connection.transaction():
        history = connection.execute(
            "SELECT item_id FROM interactions WHERE user_id = 'u7' ORDER BY created_at, id"
        ).fetchall()
    tied = sorted((each for each in rows if each.user_id == "u7"), key=lambda each: each.created_us)
    assert [item for (item,) in history] == [each.item_id for each in tied]


@pytest.mark.usefixtures("way")
def test_later_events_get_greater_ids(connection: psycopg.Connection) -> None:
    run(connection, Rows([row("u", str(number)) for number in range(10)]))
    with connection.transaction():
        connection.execute(
            "INSERT INTO interactions (event_id, user_id, item_id, event_type, created_at) "
            "VALUES (gen_random_uuid(), 'u', 'last', 'view', now())"
        )
    assert stored(connection)[-1] == ("u", "last")


def test_users_span_from_their_first_event_to_their_last(connection: psycopg.Connection) -> None:
    run(connection, Rows([row("u", "1", _US), row("u", "2", _US + _HOUR_US)]))
    run(connection, Rows([row("u", "3", _US - _HOUR_US), row("v", "1", _US)]))
    run(connection, Rows([row("u", "4", _US)]))
    with connection.transaction():
        users = connection.execute(
            "SELECT user_id, extract(epoch FROM last_seen_at - first_seen_at)::int FROM users ORDER BY 1"
        ).fetchall()
    assert users == [("u", 7200), ("v", 0)]


def test_the_last_line_about_an_item_counts(connection: psycopg.Connection) -> None:
    run(connection, Rows([row("u", "1")], [Item("1", "Old", ()), Item("2", "Two", ()), Item("1", "New", ("A",))]))
    run(connection, Rows([row("u", "1")], [Item("2", "Second", ())]))
    with connection.transaction():
        items = connection.execute("SELECT item_id, title, genres FROM items ORDER BY 1").fetchall()
    assert items == [("1", "New", ["A"]), ("2", "Second", [])]


@pytest.mark.usefixtures("way")
def test_another_catalogue_is_refused_and_replaces_on_request(connection: psycopg.Connection) -> None:
    demo = SyntheticSource(SyntheticSettings(users=2, items=50))
    run(connection, demo)
    before = stored(connection)
    other = Rows([row("user_1", "1")], [Item("1", "Other", ())], Catalogue("movielens", "ml-100k"))
    with pytest.raises(SeedingProblem, match=r"synthetic demo data .*--replace .*--merge"):
        run(connection, other)
    assert stored(connection) == before
    structure = definitions(connection)
    outcome = run(connection, other, Mode.REPLACE)
    assert (outcome.removed, outcome.new) == (len(before), 1)
    assert stored(connection) == [("user_1", "1")]
    assert (count(connection, "users"), count(connection, "items"), count(connection, "data_sources")) == (1, 1, 1)
    assert definitions(connection) == structure, "indexes and constraints are as they were"
    with pytest.raises(SeedingProblem, match="ml-100k"):
        run(connection, Rows([row("u", "1")], catalogue=Catalogue("movielens", "ml-1m")))


def test_merging_keeps_both(connection: psycopg.Connection) -> None:
    run(connection, Rows([row("u", "1")]))
    run(connection, Rows([row("v", "2")], catalogue=Catalogue("movielens", "ml-100k")), Mode.MERGE)
    assert stored(connection) == [("u", "1"), ("v", "2")]
    assert count(connection, "data_sources") == 2
    with pytest.raises(SeedingProblem, match=r"ml-100k \(movielens\)"):
        run(connection, Rows([row("w", "3")]))


def test_what_came_over_http_takes_a_csv_but_no_public_set(connection: psycopg.Connection) -> None:
    with connection.transaction():
        connection.execute(
            "INSERT INTO interactions (event_id, user_id, item_id, event_type, created_at) "
            "VALUES (gen_random_uuid(), 'u', '1', 'view', now())"
        )
    with pytest.raises(SeedingProblem, match="came over HTTP"):
        run(connection, Rows([row("u", "1")], catalogue=Catalogue("movielens", "ml-100k")))
    assert run(connection, Rows([row("u", "2")])).new == 1


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("mode", [Mode.REFUSE, Mode.REPLACE])
def test_a_failure_on_the_way_leaves_everything_as_it_was(connection: psycopg.Connection, mode: Mode) -> None:
    run(connection, Rows([row("u", "1")], [Item("1", "One", ())]))
    before, structure = stored(connection, "id, event_id"), definitions(connection)
    with pytest.raises(KeyboardInterrupt):
        run(connection, Rows([row("u", "2")] * 9, [Item("2", "Two", ())], fail=KeyboardInterrupt()), mode)
    assert stored(connection, "id, event_id") == before
    assert definitions(connection) == structure
    assert (count(connection, "items"), count(connection, "users")) == (1, 1)


def test_an_interruption_between_two_statements_is_rolled_back(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PostgreSQL knows of no error here, so the rollback is the seeder's own."""

    def interrupt(_connection: psycopg.Connection) -> None:
        raise Interrupted(signal.SIGTERM, "Interrupted.")

    monkeypatch.setattr(loading, "_insert_items", interrupt)
    with pytest.raises(Interrupted):
        run(connection, Rows([row("u", "1")], [Item("1", "One", ())]))
    assert (count(connection, "interactions"), count(connection, "users")) == (0, 0)


def test_a_failure_while_writing_brings_the_indexes_back(
    connection: psycopg.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_ROWS_WORTH_A_LOCK", 1)
    structure = definitions(connection)
    with pytest.raises(psycopg.errors.CheckViolation):
        run(connection, Rows([row("u", "1", event_type="stare")]))
    assert definitions(connection) == structure
    assert count(connection, "interactions") == 0


def test_while_others_use_the_table_rows_are_written_one_by_one(
    connection: psycopg.Connection, database: PostgresSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "_ROWS_WORTH_A_LOCK", 1)
    monkeypatch.setattr(loading, "_LOCK_TIMEOUT", "50ms")
    with connect(database, "reader") as reader:
        reader.execute("SELECT count(*) FROM interactions")
        assert run(connection, Rows([row("u", str(number)) for number in range(5)])).new == 5
        assert reader.execute("SELECT count(*) FROM interactions").fetchone() == (5,)


def test_a_row_that_arrives_before_the_lock_is_not_lost(
    connection: psycopg.Connection, database: PostgresSettings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The table is looked at once more when it is locked, before it is emptied."""
    monkeypatch.setattr(loading, "_ROWS_WORTH_A_LOCK", 1)
    event = str(uuid.uuid4())
    look = loading._scalar

    def arrive_after_the_first_look(connection: psycopg.Connection, query: str, *parameters: object) -> int:
        found = look(connection, query, *parameters)
        if "NOT EXISTS" in query and found:
            with connect(database, "db_writer") as writer:
                writer.execute(
                    "INSERT INTO interactions (event_id, user_id, item_id, event_type, created_at) "
                    "VALUES (%s, 'live', '1', 'view', now())",
                    (event,),
                )
        return found

    monkeypatch.setattr(loading, "_scalar", arrive_after_the_first_look)
    run(connection, Rows([row("u", "1")]))
    assert {user for user, _ in stored(connection)} == {"live", "u"}


def test_a_source_without_a_good_row_is_refused(connection: psycopg.Connection, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id,timestamp\na b,1,1600000000\n")
    with pytest.raises(SeedingProblem, match=r"None of the 1 rows of events\.csv could be read.* bad user id"):
        run(connection, open_csv(path, CsvOptions(), tmp_path / "rejects"))
    assert (tmp_path / "rejects" / "events.csv.rejected.tsv").read_text().endswith("2\tbad user id\ta b,1,1600000000\n")
    path.write_text("user_id,item_id,timestamp\n")
    with pytest.raises(SeedingProblem, match=r"no rows in events\.csv"):
        run(connection, open_csv(path, CsvOptions(), tmp_path / "rejects"))


def test_rejected_rows_do_not_keep_the_others_out(connection: psycopg.Connection, tmp_path: Path) -> None:
    path = tmp_path / "events.csv"
    path.write_text("user_id,item_id,timestamp\na,1,1600000000\na,2\na,3,1600000000\n")
    outcome = run(connection, open_csv(path, CsvOptions(), tmp_path / "rejects"))
    assert (outcome.new, outcome.rejected) == (2, 1)
    assert [item for _, item in stored(connection)] == ["1", "3"]


def test_a_public_set_and_its_second_run(connection: psycopg.Connection, shared_data: Path, tmp_path: Path) -> None:
    source = open_movielens(shared_data / "ml-100k.inter", shared_data / "ml-100k.item", tmp_path)
    assert run(connection, source).new == 100_000
    assert (count(connection, "users"), count(connection, "items")) == (943, 1_682)
    expected = [
        (f"user_{fields[0]}", fields[1])
        for line in (shared_data / "ml-100k.inter").read_text().splitlines()[1:]
        for fields in [line.split("\t")]
    ]
    assert stored(connection) == expected
    assert run(connection, source).new == 0
