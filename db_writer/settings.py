"""The database writer's settings."""

import socket

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from recstream.ops import ports
from recstream.ops.settings import ServiceSettings


class DbWriterSettings(ServiceSettings):
    """`DB_WRITER_GROUP`, `DB_WRITER_BATCH`, `DB_WRITER_METRICS_HOST`, `DB_WRITER_METRICS_PORT` and the like."""

    model_config = SettingsConfigDict(env_prefix="DB_WRITER_")

    id: str = Field(default_factory=lambda: f"db_writer-{socket.gethostname()}", min_length=1, max_length=64)
    group: str = "db_writer"
    batch: int = Field(default=500, ge=1, le=10_000)
    maintenance_interval_seconds: float = Field(default=3600, gt=0)
    expiry_interval_seconds: float = Field(default=2, gt=0)
    """How often to look for requests that nothing answered."""
    expiry_grace_seconds: float = Field(default=5, ge=0)
    """How long after its deadline a request is ended that no worker has answered."""
    metrics_host: str = "127.0.0.1"
    metrics_port: int = ports.DB_WRITER_METRICS
