"""The network beside its baselines, all measured in the same way on the same held-out items."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

from recstream.model.config import SasrecConfig
from trainer.baselines import NeighbourScorer, PopularityScorer, recent_counts
from trainer.evaluation import Evaluation, SasrecScorer, evaluate
from trainer.fit import fit_network, prepare
from trainer.interactions import Interactions
from trainer.progress import Training
from trainer.ranks import Ranks
from trainer.reporting import Reporter
from trainer.settings import TrainerSettings
from trainer.split import Split, counts_of, leave_one_out, temporal

SplitName = Literal["leave-one-out", "temporal"]


@dataclass(frozen=True, slots=True)
class Run:
    """One training from one seed; `seconds` are the training's, validation included."""

    seed: int
    config: SasrecConfig
    parameters: int
    training: Training
    test: Evaluation
    seconds: float


@dataclass(frozen=True, slots=True)
class Comparison:
    """Baselines by name, and a run for each seed."""

    split: SplitName
    baselines: dict[str, Evaluation]
    runs: list[Run]

    def mean(self, metric: str) -> float:
        """Return the network's mean over the seeds."""
        return fmean(run.test.metrics[metric] for run in self.runs)

    def spread(self, metric: str) -> float | None:
        """Return the standard deviation over the seeds; None for one seed."""
        return stdev(run.test.metrics[metric] for run in self.runs) if len(self.runs) > 1 else None


def compare(
    data: Interactions,
    split_name: SplitName,
    settings: TrainerSettings,
    seeds: Sequence[int],
    recent_days: float,
    reporter: Reporter,
) -> Comparison:
    """Measure the baselines, then train and measure the network once a seed.

    A baseline that the data cannot tell, or whose package is not installed, is left out, and the reporter says why.
    Raises TrainingRefused as `fit_network` and `evaluate` do, and where the data cannot be split so.
    """
    device = prepare(settings)
    split = _split(data, split_name)
    counts = counts_of(data, split.in_training)
    reporter.say(
        f"{split_name}: {int(split.in_training.sum()):,} interactions to train on, {len(split.validation):,} users to "
        f"validate with, {len(split.test):,} to test with."
    )
    baselines = {"popular": evaluate(PopularityScorer(counts, device), split.test, counts, device)}
    recent = recent_counts(data, split, recent_days)
    if recent is None:
        reporter.say("There is no list of what was popular of late: the data tell no times.")
    else:
        scorer = PopularityScorer(recent, device)
        baselines[f"popular {recent_days:g} d"] = evaluate(scorer, split.test, counts, device)
    try:
        neighbours = NeighbourScorer(data, split, device)
    except ImportError:
        reporter.say("There are no neighbours to compare with: the package `implicit` is not installed.")
    else:
        baselines["item-kNN"] = evaluate(neighbours, split.test, counts, device)
    runs = []
    for seed in seeds:
        own = settings.model_copy(update={"seed": seed})
        prepare(own)
        started = time.monotonic()
        network, training = fit_network(split, data.n_items, own, Ranks(device=device), reporter)
        seconds = time.monotonic() - started
        test = evaluate(SasrecScorer(network, device), split.test, counts, device)
        parameters = sum(parameter.numel() for parameter in network.parameters())
        runs.append(Run(seed, network.config, parameters, training, test, seconds))
    return Comparison(split_name, baselines, runs)


def _split(data: Interactions, name: SplitName) -> Split:
    return leave_one_out(data) if name == "leave-one-out" else temporal(data)
