"""The API's settings."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from recstream.ops import ports
from recstream.ops.settings import ServiceSettings


class ApiSettings(ServiceSettings):
    """`API_HOST`, `API_PORT`, and the limits below under `API_...`."""

    model_config = SettingsConfigDict(env_prefix="API_")

    host: str = "127.0.0.1"
    port: int = ports.API
    pool_size: int = Field(default=5, ge=1)
    """Database connections for reading; accepting has one of its own."""
    max_body_bytes: int = Field(default=1_048_576, ge=1024)
    max_wait_seconds: int = Field(default=30, ge=1)
    """The longest `Prefer: wait=` that is honoured."""
    max_backlog: int = Field(default=10_000, ge=1)
    """Accepted requests that Kafka has not confirmed; beyond it new ones get 503."""
    outbox_grace_seconds: float = Field(default=15, gt=10)
    """Age at which the relay takes an outbox row: longer than the producer's delivery time-out of 10 s."""
    idempotency_ttl_seconds: int = Field(default=86_400, ge=60)
    max_streams: int = Field(default=500, ge=1)
    """Event streams open at once; further ones get 503."""
    stream_heartbeat_seconds: float = Field(default=15, gt=0)
    """Silence after which a stream sends a comment, so that no proxy between takes it for dead."""
    stream_max_seconds: float = Field(default=600, gt=0)
    """When an open stream is ended; the client resumes, here or at another replica."""
    max_pending_seconds: int = Field(default=21_600, ge=60, le=43_200)
    """When a request without a deadline of its own is given up; well inside the topics' retention of a day."""
    queue_watch_seconds: float = Field(default=5, gt=0)
    """How often the groups' lag and the dead letters are read from Kafka."""
    cached_results: int = Field(default=20_000, ge=1)
    """Recent results kept in memory, so that a GET right after a result never says PENDING."""
    cached_result_bytes: int = Field(default=67_108_864, ge=1_048_576)
