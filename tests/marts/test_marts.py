"""The marts against an independent calculation in pandas, on random data that has every awkward case.

dbt runs from its own environment on the real PostgreSQL.
"""

# pandas' stubs take every cell for anything it could be.
# mypy: disable-error-code="operator,return-value,arg-type"

import json
import subprocess
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import psycopg
import pytest

from launcher.layout import CHECKOUT
from launcher.marts import dbt_command
from recstream.db.engine import connect
from recstream.db.partitions import ensure_partitions
from recstream.db.settings import PostgresSettings

pytestmark = pytest.mark.integration

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
DAYS = 6
TAKEN = ["view", "like", "purchase", "rating"]


class Marts:
    """A database with data, and dbt on it; `interactions` and `requests` are what was put in."""

    def __init__(self, settings: PostgresSettings, folder: Path) -> None:
        self.settings = settings
        self.interactions: list[tuple[str, str, str, datetime]] = []
        self.requests: list[tuple[uuid.UUID, str | None, str, datetime, datetime | None, str, list[str]]] = []
        self._env = {
            "PATH": "/usr/bin:/bin",
            "HOME": str(folder),
            "POSTGRES_PORT": str(settings.port),
            "POSTGRES_DB": settings.db,
            "POSTGRES_PASSWORD": settings.password.get_secret_value(),
            "DBT_TARGET_PATH": str(folder / "target"),
            "DBT_LOG_PATH": str(folder / "logs"),
        }

    def dbt(self, *arguments: str, as_of: datetime = NOW, statuses: tuple[int, ...] = (0,)) -> str:
        """Run dbt as at a moment; return what it printed."""
        variables = json.dumps({"as_of": as_of.isoformat()})
        command = dbt_command("once", *arguments, "--vars", variables)
        run = subprocess.run(command, env=self._env, capture_output=True, text=True, timeout=120)
        assert run.returncode in statuses, run.stdout[-4000:] + run.stderr[-2000:]
        return run.stdout

    def run_at_once(self, count: int, as_of: datetime) -> None:
        """Type `dbt run` so many times side by side, as in the container."""
        project = CHECKOUT / "dbt"
        path = f"{project / 'bin'}:{Path(dbt_command()[0]).parent}:{self._env['PATH']}"
        variables = json.dumps({"as_of": as_of.isoformat()})
        runs = [
            subprocess.Popen(
                [project / "bin" / "dbt", "run", "--profiles-dir", ".", "--vars", variables],
                cwd=project,
                env=self._env | {"PATH": path, "DBT_TARGET_PATH": f"{self._env['DBT_TARGET_PATH']}-{number}"},
                stdout=subprocess.PIPE,
                text=True,
            )
            for number in range(count)
        ]
        outputs = [run.communicate(timeout=180)[0] for run in runs]
        assert [run.returncode for run in runs] == [0] * count, "\n".join(output[-2500:] for output in outputs)

    def connect(self) -> psycopg.Connection:
        """Open a connection."""
        return connect(self.settings, "tests")

    def add_interactions(self, rows: list[tuple[str, str, str, datetime]]) -> None:
        """Store interactions, also such as are there already."""
        self.interactions += rows
        with self.connect() as connection, connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO interactions (event_id, user_id, item_id, event_type, created_at)"
                " VALUES (gen_random_uuid(), %s, %s, %s, %s)",
                rows,
            )

    def add_request(
        self, user: str | None, status: str, at: datetime, version: str, items: list[str], seconds: float = 0.05
    ) -> None:
        """Store a request with its result."""
        milliseconds = int(at.timestamp() * 1000)
        key = uuid.UUID(int=(milliseconds << 80) | (0x7 << 76) | (uuid.uuid4().int & ((1 << 76) - 1)))
        completed = None if status == "PENDING" else at + timedelta(seconds=seconds)
        self.requests.append((key, user, status, at, completed, version, items))
        result = {
            "request_id": str(key),
            "source": "popularity" if version == "popularity-1" else "sasrec",
            "items": [{"item_id": item, "score": 10.0 - rank} for rank, item in enumerate(items)],
            "timings_ms": {"queued": 1.5, "batch_wait": 0.5, "inference": 2.0, "total": 4.0},
        }
        with self.connect() as connection:
            connection.execute(
                "INSERT INTO predictions (request_id, user_id, status, request_json, result_json, model_version,"
                " created_at, completed_at) VALUES (%s, %s, %s, '{}', %s, %s, %s, %s)",
                (key, user, status, None if completed is None else json.dumps(result), version, at, completed),
            )

    def table(self, query: str) -> pd.DataFrame:
        """Return a query's rows."""
        with self.connect() as connection:
            cursor = connection.execute(query.encode())
            assert cursor.description is not None
            return pd.DataFrame(cursor.fetchall(), columns=[column.name for column in cursor.description])

    def everything(self) -> dict[str, list[tuple[object, ...]]]:
        """Return every mart's rows, but when they were computed."""
        names = self.table("SELECT tablename FROM pg_tables WHERE schemaname = 'marts' ORDER BY 1")["tablename"]
        found = {}
        for name in names:
            rows = self.table(f"SELECT * FROM marts.{name}").drop(columns="computed_at", errors="ignore")
            # A mean of floats depends a little on the order in which they were added.
            rows = rows.round(dict.fromkeys(rows.select_dtypes("float").columns, 6))
            found[name] = sorted(map(tuple, rows.astype(str).to_numpy().tolist()))
        return found


@pytest.fixture(scope="module")
def marts(module_database: PostgresSettings, tmp_path_factory: pytest.TempPathFactory) -> Marts:
    """Return a database with random traffic of six days, built in full as at noon of the last."""
    made = Marts(module_database, tmp_path_factory.mktemp("dbt"))
    random = np.random.default_rng(7)
    with made.connect() as connection:
        connection.autocommit = True
        ensure_partitions(connection, NOW - timedelta(days=31))
        ensure_partitions(connection, NOW)
    start = NOW - timedelta(days=DAYS)
    interactions = [
        (
            f"user_{random.integers(20)}",
            str(random.integers(30)),
            str(random.choice([*TAKEN, "dismiss"])),
            start + timedelta(seconds=float(random.uniform(0, DAYS * 86_400))),
        )
        for _ in range(600)
    ]
    midnight = NOW.replace(hour=0)
    interactions += [
        # The last instant of a day, and the first of the next: one minute, two days, one session.
        ("at_midnight", "1", "view", midnight - timedelta(milliseconds=1)),
        ("at_midnight", "2", "view", midnight),
        # Sent twice.
        *interactions[:25],
        ("only_dismisses", "3", "dismiss", midnight - timedelta(hours=30)),
    ]
    made.add_interactions(interactions)
    versions = ["sasrec-1", "sasrec-2", "popularity-1"]
    for _ in range(150):
        made.add_request(
            None if random.random() < 0.2 else f"user_{random.integers(25)}",
            str(random.choice(["COMPLETED", "COMPLETED", "COMPLETED", "FAILED", "EXPIRED", "CANCELLED", "PENDING"])),
            start + timedelta(seconds=float(random.uniform(0, DAYS * 86_400))),
            str(random.choice(versions)),
            [str(item) for item in random.choice(30, 5, replace=False)],
            seconds=float(random.uniform(0.01, 2)),
        )
    made.add_request("at_midnight", "COMPLETED", midnight - timedelta(milliseconds=1), "sasrec-1", ["2", "9"])
    made.dbt("build")
    return made


def _interactions(marts: Marts) -> pd.DataFrame:
    frame = pd.DataFrame(marts.interactions, columns=["user", "item", "type", "at"]).drop_duplicates()
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    return frame.assign(day=frame["at"].dt.date)


def _requests(marts: Marts) -> pd.DataFrame:
    columns = ["id", "user", "status", "at", "completed", "version", "items"]
    frame = pd.DataFrame(marts.requests, columns=columns)
    frame["at"] = pd.to_datetime(frame["at"], utc=True)
    frame["completed"] = pd.to_datetime(frame["completed"], utc=True)
    return frame.assign(day=frame["at"].dt.date)


def _expected_daily(marts: Marts) -> pd.DataFrame:
    acts, asked = _interactions(marts), _requests(marts)
    rows = []
    for day in sorted({*acts["day"], *asked["day"]}):
        acted, requested = acts[acts["day"] == day], asked[asked["day"] == day]
        done = requested[requested["status"] == "COMPLETED"]
        latency = (done["completed"] - done["at"]).dt.total_seconds() * 1000
        rows.append(
            {
                "report_date": day,
                "dau": len({*acted["user"], *requested["user"].dropna()}),
                "interactions": len(acted),
                "total_requests": len(requested),
                "total_predictions": len(done),
                "failed": int((requested["status"] == "FAILED").sum()),
                "expired": int((requested["status"] == "EXPIRED").sum()),
                "cancelled": int((requested["status"] == "CANCELLED").sum()),
                "pending": int((requested["status"] == "PENDING").sum()),
                "fallback_share": float((done["version"] == "popularity-1").mean()) if len(done) else np.nan,
                "p50_latency_ms": float(np.percentile(latency, 50)) if len(done) else np.nan,
                "p95_latency_ms": float(np.percentile(latency, 95)) if len(done) else np.nan,
            }
        )
    return pd.DataFrame(rows)


def _assert_daily(marts: Marts) -> None:
    expected = _expected_daily(marts)
    found = marts.table(f"SELECT {', '.join(expected.columns)} FROM marts.dm_daily_stats ORDER BY report_date")
    pd.testing.assert_frame_equal(found.astype(expected.dtypes.to_dict()), expected, rtol=1e-5, atol=0.01)


def _expected_outcomes(marts: Marts, as_of: datetime) -> dict[tuple[str, int], tuple[bool, bool, bool]]:
    """Return (taken, dismissed, final) by request and rank, by looking at every interaction for every item."""
    acts = list(_interactions(marts)[["user", "item", "type", "at"]].itertuples(index=False))
    expected = {}
    for asked in _requests(marts).itertuples(index=False):
        if asked.status != "COMPLETED" or not isinstance(asked.user, str):
            continue
        for rank, item in enumerate(asked.items, start=1):
            until = asked.completed + timedelta(hours=24)
            met = {
                kind for user, what, kind, at in acts
                if user == asked.user and what == item and asked.completed <= at < until
            }  # fmt: skip
            expected[str(asked.id), rank] = (bool(met & set(TAKEN)), "dismiss" in met, until <= as_of)
    return expected


def _assert_outcomes(marts: Marts, as_of: datetime) -> None:
    found = marts.table(
        "SELECT request_id, rank, taken, dismissed, outcome_final FROM marts.dm_recommendation_outcomes"
    )
    assert {(str(row[0]), row[1]): tuple(row[2:]) for row in found.itertuples(index=False)} == _expected_outcomes(
        marts, as_of
    )


def test_daily_numbers(marts: Marts) -> None:
    _assert_daily(marts)


def test_what_became_of_recommendations(marts: Marts) -> None:
    expected = _expected_outcomes(marts, NOW)
    assert 0 < sum(taken for taken, _, _ in expected.values()) < len(expected)
    assert 0 < sum(final for _, _, final in expected.values()) < len(expected)
    _assert_outcomes(marts, NOW)


def test_click_through_counts_what_is_final_only(marts: Marts) -> None:
    expected = [(taken, rank) for (_, rank), (taken, _, final) in _expected_outcomes(marts, NOW).items() if final]
    found = marts.table(
        "SELECT rank, sum(final_items)::int, sum(taken_items)::int FROM marts.dm_click_through_daily GROUP BY 1"
    )
    assert {row[0]: (row[1], row[2]) for row in found.itertuples(index=False) if row[1]} == {
        rank: (sum(r == rank for _, r in expected), sum(taken for taken, r in expected if r == rank))
        for rank in {rank for _, rank in expected}
    }


def test_sessions(marts: Marts) -> None:
    acts = _interactions(marts)[["user", "at"]]
    asked = _requests(marts).dropna(subset=["user"])[["user", "at"]]
    expected = []
    for user, group in pd.concat([acts, asked]).sort_values("at").groupby("user"):
        session = (group["at"].diff() > timedelta(minutes=30)).cumsum()
        for _, times in group["at"].groupby(session):
            expected.append((user, times.iloc[0], times.iloc[-1], len(times)))
    found = marts.table("SELECT user_id, started_at, ended_at, interactions + requests FROM marts.dm_user_sessions")
    assert sorted(found.itertuples(index=False, name=None)) == sorted(expected)


def test_late_events_and_ripening_outcomes_are_picked_up_and_equal_a_full_refresh(marts: Marts) -> None:
    yesterday = NOW - timedelta(days=1)
    taken_late = next(
        (asked[1], asked[6][0], asked[4] + timedelta(minutes=3))
        for asked in marts.requests
        if asked[2] == "COMPLETED" and asked[1] and asked[4] and yesterday < asked[4] < NOW - timedelta(hours=2)
    )
    user, item, at = taken_late
    assert user is not None
    marts.add_interactions(
        [
            (user, item, "purchase", at),
            # It joins two sessions of yesterday, or makes one.
            ("at_midnight", "7", "view", NOW.replace(hour=0) - timedelta(minutes=20)),
            ("user_new", "5", "view", NOW + timedelta(minutes=30)),
        ]
    )
    marts.add_request("user_new", "COMPLETED", NOW + timedelta(minutes=31), "sasrec-2", ["5", "6"])
    later = NOW + timedelta(hours=1)
    marts.dbt("build", as_of=later)
    _assert_daily(marts)
    _assert_outcomes(marts, later)
    increment = marts.everything()
    marts.dbt("run", "--full-refresh", as_of=later)
    assert marts.everything() == increment


def test_runs_typed_by_hand_at_once_fill_nothing_twice(marts: Marts) -> None:
    later = NOW + timedelta(hours=1)
    marts.dbt("build", as_of=later)
    before = marts.everything()
    marts.run_at_once(3, as_of=later)
    assert marts.everything() == before


def test_unit_tests_of_the_queries(marts: Marts) -> None:
    assert "ERROR=0" in marts.dbt("test", "--select", "test_type:unit")


def test_sources_are_fresh_or_not(marts: Marts) -> None:
    # Random traffic of a day long gone is stale, which dbt says with its status.
    assert "2 sources" in marts.dbt("source", "freshness", statuses=(0, 1))
