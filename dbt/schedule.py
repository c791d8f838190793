"""Runs dbt on the marts: by the clock, as a service, or once. Needs dbt's own environment and nothing of Recstream's.

    python schedule.py                   now, and then whenever MARTS_SCHEDULE says
    python schedule.py once [ARGUMENTS]  dbt build, or the dbt command that ARGUMENTS begin with; ends with its status

Settings are environment variables: POSTGRES_HOST, _PORT, _DB, _USER, _PASSWORD (or _PASSWORD_FILE), MARTS_SCHEDULE
(five cron fields, UTC), MARTS_METRICS_HOST, MARTS_METRICS_PORT. Where dbt writes: DBT_TARGET_PATH, DBT_LOG_PATH.
"""

import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from pathlib import Path
from socketserver import ThreadingMixIn
from typing import Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer, make_server

import psycopg2
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from prometheus_client import Counter, Gauge, make_wsgi_app

PROJECT = Path(__file__).resolve().parent
ADVISORY_LOCK = 7_301_905_524
"""Held while dbt runs: two at once would fill an incremental mart twice. recstream/db/advisory_locks.py lists all."""
HOURLY = "5 * * * *"
_LOOK_S = 0.5

log = logging.getLogger("marts")

RUNS = Counter("marts_runs", "Runs of dbt that ended, by how.", ["outcome"])
RUN_SECONDS = Gauge("marts_run_duration_seconds", "How long the last run took.")
LAST_SUCCESS = Gauge("marts_last_success_timestamp_seconds", "When the marts were last brought up to date.")


class Dbt:
    """One dbt process at a time, here and on the whole database."""

    def __init__(self, environment: dict[str, str]) -> None:
        self._environment = environment
        self._process: subprocess.Popen[bytes] | None = None
        self._stopping = threading.Event()
        self._lock = threading.Lock()

    def run(self, arguments: Sequence[str]) -> int:
        """Run dbt when nobody else does; return its exit status, negative for a signal. Its output is ours.

        Raises psycopg2.OperationalError where PostgreSQL cannot be reached.
        """
        environment = self._environment
        with closing(
            psycopg2.connect(
                host=environment["POSTGRES_HOST"],
                port=environment["POSTGRES_PORT"],
                dbname=environment["POSTGRES_DB"],
                user=environment["POSTGRES_USER"],
                password=environment["POSTGRES_PASSWORD"],
                application_name="marts",
                connect_timeout=5,
            )
        ) as connection:
            connection.autocommit = True
            with connection.cursor() as cursor:
                waiting = False
                while True:
                    cursor.execute("SELECT pg_try_advisory_lock(%s)", (ADVISORY_LOCK,))
                    if cursor.fetchone() == (True,):
                        break
                    if not waiting:
                        log.info("waiting for another run of dbt to end")
                        waiting = True
                    if self._stopping.wait(_LOOK_S):
                        return -signal.SIGTERM
            with self._lock:
                if self._stopping.is_set():
                    return -signal.SIGTERM
                command = [Path(sys.executable).with_name("dbt"), *arguments, "--profiles-dir", PROJECT]
                self._process = subprocess.Popen(command, cwd=PROJECT, env=environment)
            return self._process.wait()

    def stop(self) -> None:
        """End a run in progress, and let no other begin. What it had not committed is undone."""
        with self._lock:
            self._stopping.set()
            if self._process is not None and self._process.poll() is None:
                self._process.terminate()


def arguments_for(given: Sequence[str]) -> list[str]:
    """Return dbt's arguments: `build` goes before options, another command stands for itself."""
    if given and not given[0].startswith("-"):
        return list(given)
    # Unit tests are about the queries, not about the data.
    return ["build", "--exclude-resource-type", "unit_test", *given]


def environment_with_password(inherited: dict[str, str]) -> dict[str, str]:
    """Return the environment with defaults, and the password from its file where one is named; dbt knows no files."""
    environment = {
        "POSTGRES_HOST": "127.0.0.1",
        "POSTGRES_PORT": "5432",
        "POSTGRES_DB": "sasrec",
        "POSTGRES_USER": "sasrec",
        "DBT_USE_COLORS": "true" if sys.stdout.isatty() else "false",
        **inherited,
    }
    if not environment.get("POSTGRES_PASSWORD") and (file := environment.get("POSTGRES_PASSWORD_FILE")):
        environment["POSTGRES_PASSWORD"] = Path(file).read_text(encoding="utf-8").rstrip("\r\n")
    if not environment.get("POSTGRES_PASSWORD"):
        sys.exit("POSTGRES_PASSWORD or POSTGRES_PASSWORD_FILE is needed.")
    return environment


class Service:
    """Runs dbt at once and then by the schedule, and tells how the last run went."""

    def __init__(self, dbt: Dbt) -> None:
        self._dbt = dbt
        self.ready = True
        """False from a failed run to the next one that succeeds."""

    def run(self) -> None:
        """Bring the marts up to date. A failure is logged and counted; the next run tries again."""
        started = time.monotonic()
        try:
            status = self._dbt.run(arguments_for([]))
        except (psycopg2.Error, OSError) as error:
            log.error("dbt could not run: %s", str(error).strip())
            status = 1
        seconds = time.monotonic() - started
        RUN_SECONDS.set(seconds)
        self.ready = status == 0
        RUNS.labels("success" if self.ready else "failure").inc()
        if self.ready:
            LAST_SUCCESS.set_to_current_time()
        log.log(logging.INFO if self.ready else logging.ERROR, "dbt ended with status %d after %.1f s", status, seconds)

    def application(self) -> Callable[..., Iterable[bytes]]:
        """Return the WSGI application of `/health/live`, `/health/ready` and `/metrics`."""
        metrics: Callable[..., Iterable[bytes]] = make_wsgi_app()

        def answer(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
            match environ["PATH_INFO"]:
                case "/metrics":
                    return metrics(environ, start_response)
                case "/health/live":
                    status, body = "200 OK", b'{"status": "live"}'
                case "/health/ready" if self.ready:
                    status, body = "200 OK", b'{"status": "ready"}'
                case "/health/ready":
                    status, body = "503 Service Unavailable", b'{"status": "not ready", "checks": {"last_run": false}}'
                case _:
                    status, body = "404 Not Found", b'{"status": "not found"}'
            start_response(status, [("Content-Type", "application/json"), ("Content-Length", str(len(body)))])
            return [body]

        return answer


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True


class _QuietHandler(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing: a probe now and then is not news."""


def serve(dbt: Dbt) -> int:
    """Run until SIGTERM or SIGINT."""
    text = os.environ.get("MARTS_SCHEDULE") or HOURLY
    try:
        trigger = CronTrigger.from_crontab(text, timezone="UTC")
    except ValueError as error:
        sys.exit(f"The setting MARTS_SCHEDULE is not usable: {error}.")
    service, stop = Service(dbt), threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    scheduler = BackgroundScheduler(timezone="UTC")
    options = {"max_instances": 1, "coalesce": True, "misfire_grace_time": None}
    scheduler.add_job(service.run, trigger, id="scheduled", **options)
    scheduler.add_job(service.run, id="first", **options)
    host = os.environ.get("MARTS_METRICS_HOST") or "127.0.0.1"
    port = int(os.environ.get("MARTS_METRICS_PORT") or 9071)
    server = make_server(host, port, service.application(), server_class=_Server, handler_class=_QuietHandler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    scheduler.start()
    log.info("dbt runs now and then at %r (UTC); health and metrics on port %d", text, port)
    stop.wait()
    dbt.stop()
    scheduler.shutdown()
    server.shutdown()
    return 0


def main() -> int:
    """Do what the command line asks for; return the exit status."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(name)s: %(message)s", stream=sys.stderr)
    # What APScheduler says of each job is no news either.
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    dbt = Dbt(environment_with_password(dict(os.environ)))
    match sys.argv[1:]:
        case []:
            return serve(dbt)
        case ["once", *given]:
            # Ctrl-C reaches dbt itself, which ends in order. Not SIG_IGN: dbt would inherit that.
            signal.signal(signal.SIGINT, lambda *_: None)
            signal.signal(signal.SIGTERM, lambda *_: dbt.stop())
            try:
                status = dbt.run(arguments_for(given))
            except psycopg2.OperationalError as error:
                sys.exit(f"PostgreSQL cannot be used: {str(error).strip()}")
            return status if status >= 0 else 128 - status
        case _:
            sys.exit(__doc__)


if __name__ == "__main__":
    sys.exit(main())
