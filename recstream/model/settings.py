"""Where bundles lie."""

from pathlib import Path

from pydantic_settings import SettingsConfigDict

from recstream.ops.settings import ServiceSettings


class CheckpointSettings(ServiceSettings):
    """`CHECKPOINTS_DIR`: the folder that holds one sub-folder a model version."""

    model_config = SettingsConfigDict(env_prefix="CHECKPOINTS_")

    dir: Path = Path("checkpoints")
