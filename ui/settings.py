"""The page's settings."""

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from recstream.ops import ports
from recstream.ops.settings import ServiceSettings


class UiSettings(ServiceSettings):
    """`UI_HOST`, `UI_PORT`, and what follows under `UI_...`."""

    model_config = SettingsConfigDict(env_prefix="UI_")

    host: str = "127.0.0.1"
    port: int = ports.UI
    api_url: str = f"http://127.0.0.1:{ports.API}"
    """Where this process reaches the API; browsers never call it themselves."""
    api_timeout_seconds: float = Field(default=5, gt=0)
    results_kept: int = Field(default=2_000, ge=100)
    """Latest results kept in memory, for all browsers together."""
