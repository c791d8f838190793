"""How to reach PostgreSQL."""

from pydantic import SecretStr
from pydantic_settings import SettingsConfigDict

from recstream.ops import ports
from recstream.ops.settings import ServiceSettings


class PostgresSettings(ServiceSettings):
    """`POSTGRES_HOST`, `_PORT`, `_DB`, `_USER`, `_PASSWORD` (or `_PASSWORD_FILE`)."""

    model_config = SettingsConfigDict(env_prefix="POSTGRES_")

    host: str = "127.0.0.1"
    port: int = ports.POSTGRES
    db: str = "sasrec"
    user: str = "sasrec"
    password: SecretStr
    connect_timeout: int = 5
    """Seconds."""


class AnalystSettings(ServiceSettings):
    """`ANALYST_PASSWORD` (or `_PASSWORD_FILE`): what `python -m admin migrate` gives the role `analyst`."""

    model_config = SettingsConfigDict(env_prefix="ANALYST_")

    password: SecretStr | None = None
    """None leaves the role as it is; without a password nobody can log in as it."""
