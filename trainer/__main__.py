"""`python -m trainer`: train a model, once or on a schedule. Options go before the environment's `TRAINER_*`."""

import os
import sys
from typing import Annotated, Any

import typer
from rich.console import Console

from recstream.db.settings import PostgresSettings
from recstream.kafka.settings import KafkaSettings
from recstream.model.settings import CheckpointSettings
from recstream.ops.interruption import Interruption
from recstream.ops.logs import LogSettings, configure_logging
from recstream.ops.shutdown import stop_on_signal
from trainer.failures import failures_as_sentences
from trainer.reporting import Reporter
from trainer.run import Outcome, train_and_announce, trained_version
from trainer.schedule import parse_schedule, train_on_schedule
from trainer.settings import TrainerSettings

REFUSED = 3
"""The exit status of a training whose model did not go live."""

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False)


@app.command()
def main(
    first: Annotated[bool, typer.Option("--first", help="Do nothing where a model has been trained.")] = False,
    epochs: Annotated[int | None, typer.Option(help="At most so many passes over the data.")] = None,
    max_seconds: Annotated[float | None, typer.Option(help="End training after so long.")] = None,
    patience: Annotated[int | None, typer.Option(help="Epochs without a better validation before the end.")] = None,
    seed: Annotated[int | None, typer.Option(help="Of the weights, the order of batches and dropout.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu or cuda.")] = None,
    threads: Annotated[int | None, typer.Option(help="CPU threads; all cores if not given.")] = None,
    d_model: Annotated[int | None, typer.Option(help="Width of the network.")] = None,
    n_blocks: Annotated[int | None, typer.Option(help="Blocks of attention and feed-forward.")] = None,
    n_heads: Annotated[int | None, typer.Option(help="Attention heads.")] = None,
    dropout: Annotated[float | None, typer.Option(help="Share of activations dropped in training.")] = None,
    learning_rate: Annotated[float | None, typer.Option(help="Adam's step size.")] = None,
    max_length: Annotated[int | None, typer.Option(help="Items of a history that the model reads.")] = None,
    batch_tokens: Annotated[int | None, typer.Option(help="Items in one batch, roughly.")] = None,
    min_item_count: Annotated[int | None, typer.Option(help="Leave out items with fewer interactions.")] = None,
    min_users: Annotated[int | None, typer.Option(help="Refuse to train on fewer users.")] = None,
    negatives: Annotated[int | None, typer.Option(help="Items drawn to tell the next one from; 0: all.")] = None,
    validation_users: Annotated[int | None, typer.Option(help="Users followed during training.")] = None,
    resume: Annotated[bool | None, typer.Option(help="Go on with a training that was interrupted.")] = None,
    holdout_share: Annotated[float | None, typer.Option(help="Latest share, to decide about going live with.")] = None,
    gate_min_users: Annotated[int | None, typer.Option(help="Fewer users to ask decide nothing.")] = None,
    when_inconclusive: Annotated[str | None, typer.Option(help="promote or refuse.")] = None,
    force: Annotated[bool | None, typer.Option("--force", help="Go live even if refused; it is recorded.")] = None,
    keep_bundles: Annotated[int | None, typer.Option(help="Newest bundles that stay on disk.")] = None,
    schedule: Annotated[str | None, typer.Option(help="Train at a cron expression's times, until stopped.")] = None,
) -> None:
    """Train SASRec on the interactions in PostgreSQL, measure it, write its bundle and announce it."""
    given: dict[str, Any] = {name: value for name, value in locals().items() if name != "first" and value is not None}
    # Read when torch is imported. Threads that spin while they wait for one another took three times as long a step as
    # soon as another process wanted a core, and were hardly faster on a quiet machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    outcome = None
    with failures_as_sentences():
        configure_logging("trainer", LogSettings())
        settings = TrainerSettings(**given)
        if settings.schedule is not None and not first:
            trigger = parse_schedule(settings.schedule)
            with stop_on_signal() as stop:
                train_on_schedule(trigger, _without_schedule(sys.argv[1:]), stop)
            return
        with Interruption(
            "Interrupted: the model that is live stays. The next training goes on after the last epoch of this one."
        ).raised():
            outcome = _train(settings, first)
    if outcome is not None and not outcome.promoted:
        raise typer.Exit(REFUSED)


def _train(settings: TrainerSettings, first: bool) -> Outcome | None:
    """Train once; None where there was nothing to do, or where this is a helping process."""
    if int(os.environ.get("RANK", "0")) > 0:  # of several that `torchrun` started
        from trainer.fit import help_to_fit  # Here, because importing torch takes seconds.

        help_to_fit(settings)
        return None
    postgres, reporter = PostgresSettings(), Reporter(Console())
    if first and (version := trained_version(postgres)):
        reporter.say(f"{version} has been trained; nothing to do.")
        return None
    return train_and_announce(settings, postgres, KafkaSettings(), CheckpointSettings(), reporter)


def _without_schedule(arguments: list[str]) -> list[str]:
    """Return the options for each of the trainings."""
    kept: list[str] = []
    left = iter(arguments)
    for argument in left:
        if argument == "--schedule":
            next(left, None)
        elif not argument.startswith("--schedule="):
            kept.append(argument)
    return kept


if __name__ == "__main__":
    app()
