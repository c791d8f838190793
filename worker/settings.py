"""The worker's settings."""

import socket

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from recstream.ops import ports
from recstream.ops.settings import ServiceSettings


class WorkerSettings(ServiceSettings):
    """`WORKER_ID`, `WORKER_GROUP`, `WORKER_BATCH`, `WORKER_THREADS`, `WORKER_METRICS_PORT` and the like."""

    model_config = SettingsConfigDict(env_prefix="WORKER_")

    id: str = Field(default_factory=lambda: f"worker-{socket.gethostname()}", min_length=1, max_length=64)
    """Stable across restarts, unique among workers: the key under which this worker reports."""
    group: str = "worker"
    batch: int = Field(default=128, ge=1, le=1024)
    """Most requests in one batch. A batch never waits for more: it takes what is there."""
    threads: int = Field(default=1, ge=1)
    """torch threads; scale by processes instead (two threads beside a busy process: p99 128 ms against 14)."""
    drift_window: int = Field(default=2_000, ge=10, le=1_000_000)
    """Latest answers whose histories and scores are compared with those of the model's training data."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = ports.WORKER_METRICS
