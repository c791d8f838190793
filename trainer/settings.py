"""What may be chosen about a training; everything else follows from the data."""

from typing import Any, Literal

from pydantic import Field
from pydantic_settings import SettingsConfigDict

from recstream.ops.settings import ServiceSettings

_DECIDE_THE_NETWORK = {
    "seed",
    "d_model",
    "n_blocks",
    "n_heads",
    "dropout",
    "learning_rate",
    "max_length",
    "batch_tokens",
    "negatives",
    "min_item_count",
    "validation_users",
    "holdout_share",
}


class TrainerSettings(ServiceSettings):
    """`TRAINER_*`; `python -m trainer` takes the same as options."""

    model_config = SettingsConfigDict(env_prefix="TRAINER_")

    epochs: int = Field(default=200, ge=1)
    """At most so many passes over the data."""
    max_seconds: float = Field(default=1800, gt=0)
    """Training and validation end after so long, with the best model until then."""
    patience: int = Field(default=10, ge=1)
    """Stop after so many validations without a better NDCG@10."""
    seed: int = Field(default=1, ge=0)
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is CUDA where there is a GPU, else the CPU."""
    threads: int | None = Field(default=None, ge=1)
    """CPU threads; None for all cores."""

    d_model: int = Field(default=64, ge=1)
    n_blocks: int = Field(default=2, ge=1)
    n_heads: int = Field(default=1, ge=1)
    dropout: float = Field(default=0.2, ge=0, lt=1)
    learning_rate: float | None = Field(default=None, gt=0)
    """Adam's; None for 0.001, or 0.003 where the data are few and an epoch has few steps."""
    max_length: int | None = Field(default=None, ge=1)
    """Items of a history that the model reads; None for nearly the whole of 95% of them, 10 to 200."""
    batch_tokens: int | None = Field(default=None, ge=1)
    """Items in one batch, roughly; None for a number that gives small data enough steps an epoch."""
    negatives: int | None = Field(default=None, ge=0)
    """Items that a batch draws to tell the next one from; 0 for all, None for all of up to 100,000, else 4,096."""

    min_item_count: int = Field(default=1, ge=1)
    """Items with fewer interactions are left out, with those interactions."""
    min_users: int = Field(default=10, ge=1)
    """Fewer users with three interactions or more are too few to train on and to measure with."""
    validation_users: int = Field(default=10_000, ge=1)
    """Users, drawn once, whose NDCG@10 is followed during training; the final test takes all."""
    resume: bool = True
    """Go on with a training that was interrupted, if its settings were the same."""

    holdout_share: float = Field(default=0.05, ge=0, lt=0.5)
    """The latest share of the interactions, which is not learnt from but asked for to decide about going live."""
    gate_min_users: int = Field(default=50, ge=1)
    """With fewer users to ask, the comparison with the live model is inconclusive."""
    when_inconclusive: Literal["promote", "refuse"] = "promote"
    force: bool = False
    """Go live even if the comparison refuses it; recorded with the decision."""
    keep_bundles: int | None = Field(default=10, ge=1)
    """The newest bundles that stay on disk, and in any case the live one and the one before it; None for all."""
    schedule: str | None = None
    """A cron expression of five fields, in the machine's time zone: train at those times until stopped."""

    def that_decide_the_network(self) -> dict[str, Any]:
        """Return what must be the same for one training to go on where another ended."""
        return self.model_dump(include=_DECIDE_THE_NETWORK)
