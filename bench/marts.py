"""How long dbt takes for the marts: a full build, and an hourly increment. Prints JSON.

    .venv/bin/python bench/marts.py [--interactions 1000000] [--predictions 100000]

On a PostgreSQL of its own that is deleted afterwards. The increment follows a further hour of traffic, at the rate of
the history's thirty days.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psycopg

from launcher.layout import CHECKOUT
from launcher.ports import Ports
from launcher.postgres import PostgresServer
from recstream.db.engine import connect
from recstream.db.partitions import ensure_partitions
from recstream.db.settings import PostgresSettings
from recstream.ops.clock import utc_now

_DAYS = 30
_USERS, _ITEMS = 20_000, 5_000
_DBT = CHECKOUT / ".venv-dbt" / "bin" / "dbt"

_CATALOGUE = """
    INSERT INTO items (item_id, title, genres)
    SELECT n::text, 'Title ' || n, ARRAY['Drama'] FROM generate_series(1, %(items)s) AS n
"""
# Popular items and active users are squares of an even draw; one in a hundred is sent twice.
_INTERACTIONS = """
    WITH drawn AS MATERIALIZED (
        SELECT
            (1 + floor(%(users)s * random() ^ 2))::int::text AS user_id,
            (1 + floor(%(items)s * random() ^ 2))::int::text AS item_id,
            (ARRAY['view', 'view', 'view', 'like', 'purchase', 'rating', 'dismiss'])[1 + floor(7 * random())::int]
                AS event_type,
            %(until)s::timestamptz - random() * %(span)s::interval AS created_at,
            1 + (random() < 0.01)::int AS copies
        FROM generate_series(1, %(count)s)
    )
    INSERT INTO interactions (event_id, user_id, item_id, event_type, created_at)
    SELECT gen_random_uuid(), user_id, item_id, event_type, created_at
    FROM drawn CROSS JOIN LATERAL generate_series(1, copies)
    ORDER BY created_at
"""
# A UUIDv7 of the moment; ten items each; nine in ten for a known user, one in fifty failed.
_PREDICTIONS = """
    WITH drawn AS MATERIALIZED (
        SELECT
            n,
            %(until)s::timestamptz - random() * %(span)s::interval AS created_at,
            CASE WHEN random() < 0.9 THEN (1 + floor(%(users)s * random() ^ 2))::int::text END AS user_id,
            CASE WHEN random() < 0.02 THEN 'FAILED' ELSE 'COMPLETED' END AS status,
            'sasrec-' || 1 + floor(4 * random())::int AS version,
            random() < 0.05 AS fallback
        FROM generate_series(1, %(count)s) AS n
    ),
    keyed AS (
        SELECT
            *,
            (overlay(
                lpad(to_hex((extract(epoch FROM created_at) * 1000)::bigint), 12, '0') || md5(n::text || created_at)
                PLACING '7' FROM 13 FOR 1
            ))::varchar(32)::uuid AS request_id
        FROM drawn
    )
    INSERT INTO predictions (request_id, user_id, status, request_json, result_json, model_version, created_at,
                             completed_at)
    SELECT
        request_id, user_id, status, '{"k": 10}',
        jsonb_build_object(
            'request_id', request_id, 'status', lower(status), 'model_version', version,
            'source', CASE WHEN fallback THEN 'popularity' ELSE 'sasrec' END, 'reason', NULL,
            'history_length', 20, 'unknown_items', 0,
            'timings_ms', jsonb_build_object('queued', 2 + 8 * random(), 'batch_wait', random(),
                                             'inference', 3 * random(), 'total', 5 + 12 * random()),
            'items', (
                SELECT jsonb_agg(jsonb_build_object(
                    'item_id', (1 + floor(%(items)s * random() ^ 2))::int::text, 'score', 10 - rank + random()
                ))
                FROM generate_series(1, 10) AS rank
                WHERE status = 'COMPLETED' AND n > 0
            )
        ),
        version, created_at, created_at + make_interval(secs => 0.01 + 0.05 * random())
    FROM keyed
"""


def main() -> None:
    """Generate, build, add an hour, build again; print the seconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--interactions", type=int, default=1_000_000)
    parser.add_argument("--predictions", type=int, default=100_000)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="recstream-bench-") as folder:
        root = Path(folder)
        server = PostgresServer(
            root / "data" / "postgres", root / "postgres.log", root / "secrets", Ports.free().postgres
        )
        server.start()
        try:
            print(json.dumps(_measure(server, arguments.interactions, arguments.predictions, root), indent=2))
        finally:
            server.stop()
            server.remove()


def _measure(server: PostgresServer, interactions: int, predictions: int, root: Path) -> dict[str, object]:
    password = server.password_file.read_text(encoding="utf-8").strip()
    settings = PostgresSettings(port=server.port, password=password)  # type: ignore[arg-type]
    env = {
        **os.environ,
        "POSTGRES_HOST": settings.host,
        "POSTGRES_PORT": str(settings.port),
        "POSTGRES_DB": settings.db,
        "POSTGRES_USER": settings.user,
        "POSTGRES_PASSWORD": password,
        "DBT_LOG_PATH": str(root / "logs"),
        "DBT_TARGET_PATH": str(root / "target"),
    }
    subprocess.run([sys.executable, "-m", "admin", "migrate"], env=env, check=True, stdout=subprocess.DEVNULL)
    now = utc_now()
    with connect(settings, "bench") as connection:
        connection.autocommit = True
        ensure_partitions(connection, now)
        connection.execute(_CATALOGUE, {"items": _ITEMS})
        # The history ends an hour ago; the increment's hour comes after the first build.
        _traffic(connection, interactions, predictions, until="1 hour", span=f"{_DAYS} days")
        connection.execute("VACUUM ANALYZE")
        full = _dbt_run(env)
        hours = _DAYS * 24
        _traffic(connection, interactions // hours, predictions // hours, until="0 hours", span="1 hour")
        increments = [_dbt_run(env) for _ in range(3)]
        # An import within the last hour would have everything calculated again.
        row = connection.execute("SELECT count(*), sum(total_predictions), sum(interactions) FROM marts.dm_daily_stats")
        days, completed, counted = row.fetchone() or (None, None, None)
    return {
        "interactions": interactions,
        "predictions": predictions,
        "full_build_s": round(full, 1),
        "increments_s": [round(seconds, 1) for seconds in increments],
        "days": days,
        "completed": int(completed or 0),
        "interactions_counted": int(counted or 0),
        "cores": os.cpu_count(),
        "load_average": [round(load, 1) for load in os.getloadavg()],
    }


def _traffic(connection: psycopg.Connection, interactions: int, predictions: int, *, until: str, span: str) -> None:
    moment = connection.execute("SELECT now() - %s::interval", [until]).fetchone()
    values = {"users": _USERS, "items": _ITEMS, "until": moment[0] if moment else None, "span": span}
    connection.execute(_INTERACTIONS, {**values, "count": interactions})
    connection.execute(_PREDICTIONS, {**values, "count": predictions})


def _dbt_run(env: dict[str, str]) -> float:
    started = time.perf_counter()
    run = subprocess.run(
        [_DBT, "run", "--profiles-dir", "."], cwd=CHECKOUT / "dbt", env=env, capture_output=True, text=True
    )
    seconds = time.perf_counter() - started
    if run.returncode != 0:
        raise SystemExit(f"dbt failed:\n{run.stdout[-4000:]}")
    print("\n".join(line for line in run.stdout.splitlines() if " OK " in line), file=sys.stderr)
    return seconds


if __name__ == "__main__":
    main()
