"""From histories to a measured model and the files of its bundle."""

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from recstream.model.manifest import CONFIG, DRIFT_REFERENCE, POPULARITY, VOCABULARY, WEIGHTS
from recstream.model.net import Sasrec
from recstream.model.popularity import Popularity
from recstream.model.vocabulary import Vocabulary
from recstream.model.weights import save_weights
from trainer.baselines import PopularityScorer
from trainer.defaults import batch_tokens, choose_device, learning_rate, model_config
from trainer.evaluation import Evaluation, SasrecScorer, evaluate, mean_ndcg
from trainer.interactions import Interactions
from trainer.reference import drift_reference
from trainer.reporting import Reporter
from trainer.settings import TrainerSettings
from trainer.split import HeldOut, Split, counts_of, leave_one_out
from trainer.training import Bounds, Epoch, Training, train


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


def fit(data: Interactions, settings: TrainerSettings, reporter: Reporter) -> Fitted:
    """Train on everything but each user's last two items and measure on the last.

    The network that is measured is the one that is served: it is not trained again on the items held out, so that the
    figures printed are its own. What it has not been trained on it still reads, as part of the histories it is given.

    Raises TrainingRefused where the settings do not fit, nobody can be measured with, or the training fails.
    """
    device = prepare(settings)
    split = leave_one_out(data)
    train_counts = counts_of(data, split.in_training)
    popularity = evaluate(PopularityScorer(train_counts, device), split.test, train_counts, device)
    network, training = fit_network(split, data.n_items, settings, device, reporter)
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
    split: Split, n_items: int, settings: TrainerSettings, device: torch.device, reporter: Reporter
) -> tuple[Sasrec, Training]:
    """Train a network on `split.train`, with the epoch that ranks the validation items best.

    Raises TrainingRefused where the settings do not fit or the training fails.
    """
    config = model_config(settings, split.test.inputs, n_items)
    network = Sasrec(config).to(device)
    scorer = SasrecScorer(network, device)
    followed = _draw(split.validation, settings.validation_users, settings.seed)
    best: list[Epoch] = []

    def tell(epoch: Epoch) -> None:
        if not best or epoch.ndcg > best[-1].ndcg:
            best.append(epoch)
        reporter.epoch(epoch, best[-1])

    reporter.say(
        f"Training SASRec on {device.type}: {config.n_blocks} blocks of width {config.d_model}, "
        f"the last {config.max_length} items of a history."
    )
    started = time.monotonic()
    with reporter.bar("epoch 1"):
        training = train(
            network,
            split.train,
            lambda: mean_ndcg(scorer, followed, n_items, device)[0],
            bounds=Bounds(settings.epochs, settings.max_seconds, settings.patience),
            batch_tokens=batch_tokens(settings, split.train, config.max_length),
            learning_rate=learning_rate(settings, split.train),
            seed=settings.seed,
            on_step=reporter.advance,
            on_epoch=tell,
        )
    reporter.say(
        f"Trained {len(training.epochs)} epochs in {time.monotonic() - started:.1f} s, best in epoch "
        f"{best[-1].number} (validation NDCG@10 {best[-1].ndcg:.4f}); ended by {training.ended_because}."
    )
    return network, training


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
