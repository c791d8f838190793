"""How the trainer's commands end when something is wrong: with a sentence and a status, not a trace."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager

import psycopg
import typer
from pydantic import ValidationError

from recstream.ops.interruption import Interrupted
from trainer.refusal import TrainingRefused
from trainer.reporting import settings_sentence


@contextmanager
def failures_as_sentences() -> Iterator[None]:
    """End the process with a sentence for what a person can mend; let everything else through. Raises typer.Exit."""
    try:
        yield
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
