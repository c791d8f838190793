"""Where the seeder writes beside the database."""

from pathlib import Path

from pydantic_settings import SettingsConfigDict

from recstream.ops.settings import ServiceSettings


class SeederSettings(ServiceSettings):
    """`SEEDER_REJECTS_DIR`."""

    model_config = SettingsConfigDict(env_prefix="SEEDER_")

    rejects_dir: Path = Path(".local/rejects")
    """Side files with the lines that could not be imported; made when first needed."""
