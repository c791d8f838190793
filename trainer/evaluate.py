"""`python -m trainer.evaluate`: train and measure beside baselines; nothing is stored or announced."""

import hashlib
import json
import math
import os
import platform
import resource
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import typer
from rich.console import Console

from recstream.db.engine import connect
from recstream.db.settings import PostgresSettings
from recstream.ops.clock import to_rfc3339, utc_now
from recstream.ops.interruption import Interruption
from trainer.failures import failures_as_sentences
from trainer.files import read_file
from trainer.interactions import Interactions, read_interactions
from trainer.refusal import TrainingRefused
from trainer.reporting import Reporter
from trainer.settings import TrainerSettings

if TYPE_CHECKING:  # it imports torch, which takes seconds
    from trainer.comparison import Comparison, SplitName

app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)

_PACKAGES = ("recstream", "torch", "numpy", "implicit")


@app.command(
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
    epilog="Any option of the trainer that steers a training may follow, such as --epochs 5 or --d-model 128.",
)
def main(
    context: typer.Context,
    data: Annotated[Path | None, typer.Option(help="A public set's file; without it, what is in PostgreSQL.")] = None,
    split: Annotated[str, typer.Option(help="leave-one-out, or temporal where the times are known.")] = "leave-one-out",
    seeds: Annotated[str, typer.Option(help="Train once for each, such as 1,2,3.")] = "1",
    recent_days: Annotated[float, typer.Option(help="What `popular of late` counts.", min=0.001)] = 7,
    json_file: Annotated[Path | None, typer.Option("--json", help="Also write everything to this file.")] = None,
) -> None:
    """Train SASRec on a file or on PostgreSQL and print its figures beside those of baselines."""
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # see trainer/__main__.py
    # implicit warns where a BLAS of several threads would slow ALS down, which is not used.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    reporter = Reporter(Console())
    started = time.monotonic()
    with Interruption("Interrupted: nothing was written.").raised(), failures_as_sentences():
        try:
            settings = TrainerSettings(**_given(context.args))
            numbers = _seeds(seeds)
            interactions = _read(data, settings, reporter)
            if json_file is not None and not json_file.parent.is_dir():
                raise TrainingRefused(f"There is no folder {json_file.parent} to write {json_file.name} to.")
            from trainer.comparison import compare  # Here, because importing torch takes seconds.

            comparison = compare(interactions, _split_name(split), settings, numbers, recent_days, reporter)
            reporter.comparison(comparison)
            seconds, peak = time.monotonic() - started, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
            reporter.say(f"{seconds:.0f} s in all, {peak / 2**20:,.0f} MiB of memory at most.")
            if json_file is not None:
                record = _record(comparison, settings, data, interactions)
                json_file.write_text(
                    json.dumps({**record, "seconds": round(seconds, 1), "peak_bytes": peak}, indent=2) + "\n"
                )
        except OSError as error:
            raise TrainingRefused(f"{error.filename} cannot be used: {error.strerror}.") from error


def _given(arguments: list[str]) -> dict[str, Any]:
    """Return the trainer's options among the arguments, as `--name value` or `--name=value`."""
    given: dict[str, Any] = {}
    left = iter(arguments)
    for argument in left:
        name, equals, value = argument.removeprefix("--").partition("=")
        field = name.replace("-", "_")
        if not argument.startswith("--") or field not in TrainerSettings.model_fields:
            raise TrainingRefused(f"{argument} is no option of `evaluate` or of the trainer; --help lists them.")
        if not equals:
            found = next(left, None)
            if found is None:
                raise TrainingRefused(f"{argument} needs a value.")
            value = found
        given[field] = value
    return given


def _seeds(text: str) -> list[int]:
    try:
        seeds = [int(part) for part in text.split(",")]
    except ValueError:
        raise TrainingRefused(f"--seeds takes whole numbers with commas between, not {text!r}.") from None
    if min(seeds) < 0:
        raise TrainingRefused("A seed must not be negative.")
    return seeds


def _split_name(text: str) -> "SplitName":
    match text:
        case "leave-one-out":
            return "leave-one-out"
        case "temporal":
            return "temporal"
    raise TrainingRefused(f"--split is leave-one-out or temporal, not {text!r}.")


def _read(path: Path | None, settings: TrainerSettings, reporter: Reporter) -> Interactions:
    started = time.monotonic()
    if path is not None:
        data = read_file(path)
    else:
        postgres = PostgresSettings()
        with connect(postgres, "trainer") as connection, reporter.bar("Reading interactions"):
            data = read_interactions(connection, min_item_count=settings.min_item_count, on_progress=reporter.rows_read)
        if not len(data.codes):
            raise TrainingRefused("PostgreSQL holds no interactions; `./run seed` brings some.")
    reporter.say(
        f"Read {len(data.codes):,} interactions of {data.n_users:,} users with {data.n_items:,} items "
        f"in {time.monotonic() - started:.1f} s."
    )
    return data


def _record(
    comparison: "Comparison", settings: TrainerSettings, path: Path | None, data: Interactions
) -> dict[str, Any]:
    """Return what the JSON file says, but for time and memory."""
    import torch

    return {
        "command": " ".join(["./run evaluate", *sys.argv[1:]]),
        "at": to_rfc3339(utc_now()),
        "data": {
            "name": path.name if path is not None else "PostgreSQL",
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest() if path is not None else None,
            "interactions": len(data.codes),
            "users": data.n_users,
            "items": data.n_items,
        },
        "split": comparison.split,
        "users_tested": comparison.runs[0].test.users,
        "users_left_out": comparison.runs[0].test.repeats,
        "baselines": {name: _finite(each.metrics) for name, each in comparison.baselines.items()},
        "sasrec": {
            "mean": {name: comparison.mean(name) for name in comparison.runs[0].test.metrics},
            "standard_deviation": {name: comparison.spread(name) for name in comparison.runs[0].test.metrics},
            "runs": [
                {
                    "seed": run.seed,
                    "metrics": _finite(run.test.metrics),
                    "network": msgspec.to_builtins(run.config),
                    "parameters": run.parameters,
                    "seconds": round(run.seconds, 1),
                    "best_epoch": run.training.best.number if run.training.best is not None else None,
                    "ended_because": run.training.ended_because,
                    "epochs": [
                        {"loss": epoch.loss, "validation_ndcg@10": epoch.ndcg, "seconds": round(epoch.seconds, 2)}
                        for epoch in run.training.epochs
                    ],
                }
                for run in comparison.runs
            ],
        },
        "settings": settings.model_dump(mode="json"),
        "machine": {
            "device": "cuda" if torch.cuda.is_available() and settings.device != "cpu" else "cpu",
            "cores": os.cpu_count(),
            "architecture": platform.machine(),
        },
        "versions": {"python": platform.python_version(), **{name: _version(name) for name in _PACKAGES}},
    }


def _finite(metrics: dict[str, float]) -> dict[str, float | None]:
    return {name: value if math.isfinite(value) else None for name, value in metrics.items()}


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


if __name__ == "__main__":
    app()
