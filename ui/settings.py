"""The page's settings."""

from pathlib import Path

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from recstream.ops import ports
from recstream.ops.settings import ServiceSettings

_DASHBOARDS = Path(__file__).parents[1] / "monitoring" / "grafana" / "dashboards"


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
    db_writer_url: str = f"http://127.0.0.1:{ports.DB_WRITER_METRICS}"
    """Where the db_writer tells of its health."""
    prometheus_url: str = f"http://127.0.0.1:{ports.PROMETHEUS}"
    """Whose data the dashboards of Operations show."""
    prometheus_timeout_seconds: float = Field(default=5, gt=0)
    dashboards_dir: Path = _DASHBOARDS
    """The folder of Grafana's dashboards, drawn on Operations too."""
