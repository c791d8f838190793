"""`python -m trainer`: train a model once. Options go before the environment's `TRAINER_*`."""

import os
import sys
from typing import Annotated, Any

import psycopg
import typer
from pydantic import ValidationError
from rich.console import Console

from recstream.db.settings import PostgresSettings
from recstream.kafka.settings import KafkaSettings
from recstream.model.settings import CheckpointSettings
from recstream.ops.interruption import Interrupted, Interruption
from recstream.ops.logs import LogSettings, configure_logging
from trainer.refusal import TrainingRefused
from trainer.reporting import Reporter, settings_sentence
from trainer.run import train_and_announce, trained_version
from trainer.settings import TrainerSettings

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
    validation_users: Annotated[int | None, typer.Option(help="Users followed during training.")] = None,
) -> None:
    """Train SASRec on the interactions in PostgreSQL, measure it, write its bundle and announce it."""
    given: dict[str, Any] = {name: value for name, value in locals().items() if name != "first" and value is not None}
    # Read when torch is imported. Threads that spin while they wait for one another took three times as long a step as
    # soon as another process wanted a core, and were hardly faster on a quiet machine.
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    with Interruption("Interrupted: nothing was written, and the model that is live stays.").raised():
        try:
            configure_logging("trainer", LogSettings())
            settings, postgres, reporter = TrainerSettings(**given), PostgresSettings(), Reporter(Console())
            if first and (version := trained_version(postgres)):
                reporter.say(f"{version} has been trained; nothing to do.")
                return
            train_and_announce(settings, postgres, KafkaSettings(), CheckpointSettings(), reporter)
        except Interrupted as interruption:
            _end(interruption.sentence, interruption.exit_code)
        except ValidationError as error:
            _end(settings_sentence(error), 1)
        except psycopg.errors.UndefinedTable:
            _end("The database has no tables yet; run `python -m admin migrate` first.", 1)
        except psycopg.Error as error:
            _end(f"PostgreSQL cannot be used: {' '.join(str(error).split())}", 1)
        except TrainingRefused as error:
            _end(str(error), 1)


def _end(sentence: str, exit_code: int) -> None:
    print(sentence, file=sys.stderr)
    raise typer.Exit(exit_code)


if __name__ == "__main__":
    app()
