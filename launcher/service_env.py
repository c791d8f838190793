"""The environment variables that services get: where Kafka, PostgreSQL, the API and the bundles are."""

from collections.abc import Mapping
from pathlib import Path

from launcher.layout import Layout
from launcher.ports import LOOPBACK, Ports

DATABASE = "sasrec"
OWNER = "sasrec"
"""The role that the services use; it owns the database."""
ANALYST = "analyst"
"""The role that reads the marts."""
# glibc returns freed memory to the system at once by default; keeping it makes inference 1.5-1.9 times as fast.
_KEEP_MEMORY = {"MALLOC_TRIM_THRESHOLD_": "4294967296", "MALLOC_MMAP_THRESHOLD_": "1073741824"}
SCHEDULE = "TRAINER_SCHEDULE"
"""The variable whose cron expression makes the trainer a service."""
# Set by a user for other purposes, these would contradict what the launcher has set up.
_NOT_INHERITED = ("POSTGRES_PASSWORD", "ANALYST_PASSWORD")


def password_file(secrets: Path) -> Path:
    """Return the file with the services' database password, in the folder of a stack's secrets."""
    return secrets / "postgres_password"


def analyst_password_file(secrets: Path) -> Path:
    """Return the file with the password of the role that reads the marts."""
    return secrets / "analyst_password"


def service_variables(layout: Layout, ports: Ports) -> dict[str, str]:
    """Return the variables of a stack that every service may read."""
    return {
        "KAFKA_BOOTSTRAP_SERVERS": f"{LOOPBACK}:{ports.kafka}",
        "POSTGRES_HOST": LOOPBACK,
        "POSTGRES_PORT": str(ports.postgres),
        "POSTGRES_DB": DATABASE,
        "POSTGRES_USER": OWNER,
        "POSTGRES_PASSWORD_FILE": str(password_file(layout.secrets)),
        "ANALYST_PASSWORD_FILE": str(analyst_password_file(layout.secrets)),
        "CHECKPOINTS_DIR": str(layout.checkpoints),
        "API_HOST": LOOPBACK,
        "API_PORT": str(ports.api),
        "DB_WRITER_METRICS_PORT": str(ports.db_writer),
        "UI_HOST": LOOPBACK,
        "UI_PORT": str(ports.ui),
        "UI_API_URL": f"http://{LOOPBACK}:{ports.api}",
        "UI_DB_WRITER_URL": f"http://{LOOPBACK}:{ports.db_writer}",
        "UI_PROMETHEUS_URL": f"http://{LOOPBACK}:{ports.prometheus}",
    }


def service_env(inherited: Mapping[str, str], layout: Layout, ports: Ports) -> dict[str, str]:
    """Return the environment for a service: what the launcher inherited, with the stack's variables."""
    own = {name: value for name, value in inherited.items() if name not in _NOT_INHERITED}
    return {"LOG_FORMAT": "console", "PYTHONUNBUFFERED": "1", **own, **service_variables(layout, ports)}


def worker_env(base: Mapping[str, str], worker_id: str, metrics_port: int) -> dict[str, str]:
    """Return the environment of one worker.

    One thread each, because workers scale by processes: two threads beside another busy process had nine times the
    latency at the 99th percentile.
    """
    identity = {"WORKER_ID": worker_id, "WORKER_METRICS_PORT": str(metrics_port), "OMP_NUM_THREADS": "1"}
    return {**base, **_KEEP_MEMORY, **identity}


def ui_env(base: Mapping[str, str], layout: Layout) -> dict[str, str]:
    """Return the environment of the page, which reads the database as the analyst: the marts and nothing else."""
    return {
        **base,
        "POSTGRES_USER": ANALYST,
        "POSTGRES_PASSWORD_FILE": str(analyst_password_file(layout.secrets)),
    }


def trainer_env(base: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of one training, which uses every core. It does not wait for a scheduled time."""
    return {name: value for name, value in {**base, **_KEEP_MEMORY}.items() if name != SCHEDULE}


def scheduler_env(base: Mapping[str, str]) -> dict[str, str] | None:
    """Return the environment of trainings on a schedule; None where none is set."""
    return {**base, **_KEEP_MEMORY} if base.get(SCHEDULE) else None
