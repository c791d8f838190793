"""From histories to a measured model and the files of its bundle."""

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from recstream.model.config import SasrecConfig
from recstream.model.manifest import CONFIG, DRIFT_REFERENCE, POPULARITY, VOCABULARY, WEIGHTS
from recstream.model.net import Sasrec
from recstream.model.popularity import Popularity
from recstream.model.vocabulary import Vocabulary
from recstream.model.weights import save_weights
from trainer.baselines import PopularityScorer
from trainer.defaults import batch_tokens, choose_device, learning_rate, model_config, negatives
from trainer.evaluation import Evaluation, SasrecScorer, evaluate, mean_ndcg
from trainer.interactions import Interactions
from trainer.progress import Epoch, Training
from trainer.ranks import Ranks, join
from trainer.reference import drift_reference
from trainer.reporting import Reporter
from trainer.settings import TrainerSettings
from trainer.split import HeldOut, Sequences, Split, counts_of, leave_one_out
from trainer.training import Bounds, Recipe, train


@dataclass(frozen=True, slots=True)
class Fitted:
    """A model's files, and how it did on the test items, which neither training nor the choice of epoch has seen."""

    files: Mapping[str, bytes]
    model: Evaluation
    popularity: Evaluation
    training: Training

    def recorded_metrics(self, seconds: float) -> dict[str, float]:
        """Return what `ml_models` keeps; every number is finite. `seconds` is the whole run's."""
        ours, theirs = self.model.metrics, self.popularity.metrics
        return {
            "ndcg@10": ours["ndcg@10"],
            "recall@10": ours["recall@10"],
            "mrr@10": ours["mrr@10"],
            "popularity_ndcg@10": theirs["ndcg@10"],
            "popularity_recall@10": theirs["recall@10"],
            "epochs": float(len(self.training.epochs)),
            "seconds": round(seconds, 3),
        }


def fit(
    data: Interactions,
    settings: TrainerSettings,
    reporter: Reporter,
    saved: bytes | None = None,
    save: Callable[[bytes], None] | None = None,
) -> Fitted:
    """Train on everything but each user's last two items and measure on the last.

    The network that is measured is the one that is served: it is not trained again on the items held out, so that the
    figures printed are its own. What it has not been trained on it still reads, as part of the histories it is given.
    `saved` and `save` are `fit_network`'s.

    Raises TrainingRefused where the settings do not fit, nobody can be measured with, or the training fails.
    """
    ranks = join(prepare(settings))
    device = ranks.device
    split = leave_one_out(data)
    train_counts = counts_of(data, split.in_training)
    popularity = evaluate(PopularityScorer(train_counts, device), split.test, train_counts, device)
    network, training = fit_network(split, data.n_items, settings, ranks, reporter, saved, save)
    scorer = SasrecScorer(network, device)
    model = evaluate(scorer, split.test, train_counts, device)
    files = {
        WEIGHTS: save_weights(network),
        CONFIG: network.config.to_json(),
        VOCABULARY: Vocabulary(data.item_ids).to_json(),
        POPULARITY: _popularity(data).to_json(),
        DRIFT_REFERENCE: drift_reference(data, scorer, network.config.max_length, settings.seed).to_json(),
    }
    return Fitted(files, model, popularity, training)


def prepare(settings: TrainerSettings) -> torch.device:
    """Set torch's seed and threads and return the device. Raises TrainingRefused where there is no such device."""
    device = choose_device(settings)
    torch.manual_seed(settings.seed)
    torch.set_num_threads(settings.threads or os.cpu_count() or 1)
    return device


def fit_network(
    split: Split,
    n_items: int,
    settings: TrainerSettings,
    ranks: Ranks,
    reporter: Reporter,
    saved: bytes | None = None,
    save: Callable[[bytes], None] | None = None,
) -> tuple[Sasrec, Training]:
    """Train a network on `split.train`, with the epoch that ranks the validation items best.

    `saved` is what `save` was given after an epoch of an earlier attempt. Called by the first process; the others call
    `help_to_fit`. Raises TrainingRefused where the settings do not fit or the training fails.
    """
    config = model_config(settings, split.test.inputs, n_items)
    followed = _draw(split.validation, settings.validation_users, settings.seed)
    task = _share(ranks, _Task(config, split.train, followed, saved))
    best: list[Epoch] = []

    def tell(epoch: Epoch) -> None:
        if not best or epoch.ndcg > best[-1].ndcg:
            best.append(epoch)
        reporter.epoch(epoch, best[-1])

    reporter.say(
        f"Training SASRec on {ranks.device.type}{f' in {ranks.count} processes' if ranks.count > 1 else ''}: "
        f"{config.n_blocks} blocks of width {config.d_model}, the last {config.max_length} items of a history."
    )
    started = time.monotonic()
    with reporter.bar("epoch 1"):
        network, training = _carry_out(task, settings, ranks, reporter.advance, tell, save)
    assert training.best is not None
    reporter.say(
        f"Trained {len(training.epochs)} epochs in {time.monotonic() - started:.1f} s, best in epoch "
        f"{training.best.number} (validation NDCG@10 {training.best.ndcg:.4f}); ended by {training.ended_because}."
    )
    return network, training


def help_to_fit(settings: TrainerSettings) -> None:
    """Take part in the first process's `fit_network` as another of its processes."""
    ranks = join(prepare(settings))
    _carry_out(_share(ranks, None), settings, ranks)


@dataclass(frozen=True, slots=True)
class _Task:
    """All that processes need to train together."""

    config: SasrecConfig
    train: Sequences
    validation: HeldOut
    saved: bytes | None


def _carry_out(
    task: _Task,
    settings: TrainerSettings,
    ranks: Ranks,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
    save: Callable[[bytes], None] | None = None,
) -> tuple[Sasrec, Training]:
    n_items = task.config.n_items
    torch.manual_seed(settings.seed)
    network = Sasrec(task.config).to(ranks.device)
    scorer = SasrecScorer(network, ranks.device)
    own = task.validation.select(np.arange(ranks.rank, len(task.validation), ranks.count))

    def validate() -> float:
        ndcg, users = mean_ndcg(scorer, own, n_items, ranks.device)
        summed, everybody = ranks.sum([ndcg * users, float(users)])
        return summed / everybody if everybody else 0.0

    training = train(
        network,
        task.train,
        validate,
        bounds=Bounds(settings.epochs, settings.max_seconds, settings.patience),
        recipe=Recipe(
            batch_tokens=batch_tokens(settings, task.train),
            learning_rate=learning_rate(settings, task.train),
            negatives=negatives(settings, n_items),
            seed=settings.seed,
        ),
        ranks=ranks,
        saved=task.saved,
        on_step=on_step,
        on_epoch=on_epoch,
        save=save,
    )
    return network, training


def _share(ranks: Ranks, task: _Task | None) -> _Task:
    """Return the first process's task, on all of them."""
    if ranks.count == 1:
        assert task is not None
        return task
    given: list[npt.NDArray[Any] | None] = [None] * 8
    if task is not None:
        train, validation = task.train, task.validation
        given = [
            np.frombuffer(task.config.to_json(), dtype=np.uint8),
            np.frombuffer(task.saved or b"", dtype=np.uint8),
            train.codes,
            train.starts,
            train.lengths,
            validation.inputs.starts,
            validation.inputs.lengths,
            validation.targets,
        ]
    config, saved, codes, *numbers = [ranks.share(each) for each in given]
    codes = codes.astype(np.int32, copy=False)
    starts, lengths, inputs, input_lengths, targets = (each.astype(np.int64, copy=False) for each in numbers)
    return _Task(
        SasrecConfig.from_json(config.tobytes()),
        Sequences(codes, starts, lengths),
        HeldOut(Sequences(codes, inputs, input_lengths), targets),
        saved.tobytes() or None,
    )


def _draw(held_out: HeldOut, most: int, seed: int) -> HeldOut:
    if len(held_out) <= most:
        return held_out
    rows: npt.NDArray[np.int64] = np.random.default_rng(seed).choice(len(held_out), most, replace=False)
    return held_out.select(rows)


def _popularity(data: Interactions) -> Popularity:
    """Count over all interactions, the held-out ones too: this list is served, not measured."""
    counts = np.bincount(data.codes, minlength=data.n_items + 1)[1:]
    order = np.argsort(-counts, kind="stable")
    shares = counts[order] / counts.sum()
    return Popularity([data.item_ids[index] for index in order.tolist()], shares.tolist())
