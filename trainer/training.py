"""The training loop: Adam on the next item's cross-entropy, the best epoch by validation."""

import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from recstream.model.net import Sasrec
from trainer.batches import epoch_batches, length_buckets
from trainer.loss import NextItemLoss
from trainer.progress import Epoch, Training, encode_progress, restore_progress
from trainer.ranks import Ranks
from trainer.refusal import TrainingRefused
from trainer.split import Sequences


class TrainingFailed(TrainingRefused):
    """The loss left the finite numbers."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """When to stop."""

    epochs: int
    max_seconds: float
    patience: int


@dataclass(frozen=True, slots=True)
class Recipe:
    """How to train."""

    batch_tokens: int
    """Items in one batch, roughly; over several processes, in all their parts of it."""
    learning_rate: float
    negatives: int
    """0 for the full softmax; see NextItemLoss."""
    seed: int


def train(
    network: Sasrec,
    sequences: Sequences,
    validate: Callable[[], float],
    *,
    bounds: Bounds,
    recipe: Recipe,
    ranks: Ranks = Ranks(),  # noqa: B008  # immutable
    saved: bytes | None = None,
    on_step: Callable[[int, int], None] = lambda _done, _total: None,
    on_epoch: Callable[[Epoch], None] = lambda _epoch: None,
    save: Callable[[bytes], None] | None = None,
) -> Training:
    """Train `network` in place and leave it with the weights of the epoch that `validate` (NDCG@10) liked best.

    Runs on the device the network is on. Each item but a history's first is predicted once an epoch, from at most
    `max_length` items before it.

    Args:
        network: one that `recipe.seed` has initialised, on every process the same.
        sequences: rows of two items at least.
        validate: gives the same on every process.
        bounds: when to stop.
        recipe: how to train.
        ranks: the processes that share the work; each takes a part of every batch.
        saved: what `save` was given after an epoch: training goes on from there, as if it had never stopped.
        on_step: told steps done and steps of the epoch.
        on_epoch: told each epoch.
        save: given the state after each epoch.

    Raises:
        TrainingFailed: the loss left the finite numbers.
        ProgressUnusable: `saved` is damaged, or of another network.
    """
    device = network.item_embedding.weight.device
    rows = sequences.windows(network.config.max_length + 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=recipe.learning_rate, betas=(0.9, 0.98), fused=True)
    training, best_weights = Training(), dict[str, Tensor]()
    if saved is not None:
        training, best_weights = restore_progress(saved, network, optimizer)
        training.ended_because = ""  # the bounds may have moved since
    step = _shared_step(NextItemLoss(network, recipe.negatives), ranks)
    before = training.epochs[-1].seconds if training.epochs else 0.0
    started = time.monotonic()

    def elapsed() -> float:
        return before + time.monotonic() - started

    training.ended_because = _reached(bounds, training, elapsed(), ranks)
    while not training.ended_because:
        number = len(training.epochs) + 1
        generator = np.random.default_rng([recipe.seed, number])
        torch.manual_seed(int(np.random.SeedSequence([recipe.seed, number, ranks.rank]).generate_state(1)[0]))
        network.train()
        buckets = length_buckets(rows, recipe.batch_tokens, generator)
        total_loss, positions = torch.zeros((), device=device, dtype=torch.float64), 0
        for done, batch in enumerate(epoch_batches(rows, buckets, device, ranks.rank, ranks.count), start=1):
            # The mean over all processes' positions: each one's mean, weighted by its share, on average over them.
            loss = step(batch) * (batch.share * ranks.count)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            count = int(rows.lengths[buckets[done - 1]].sum()) - len(buckets[done - 1])
            total_loss += loss.detach() * (count / ranks.count)
            positions += count
            on_step(done, len(buckets))
            if ranks.any(elapsed() >= bounds.max_seconds):
                break
        (summed,) = ranks.sum([float(total_loss)])
        mean_loss = summed / positions
        if not np.isfinite(mean_loss):
            raise TrainingFailed(
                f"The loss is no longer finite after epoch {number}; "
                f"a lower learning rate than {recipe.learning_rate:g} may help."
            )
        network.eval()
        epoch = Epoch(number, mean_loss, validate(), elapsed())
        training.epochs.append(epoch)
        if training.best is None or epoch.ndcg > training.best.ndcg:
            training.best = epoch
            best_weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        if save is not None:
            save(encode_progress(network, optimizer, best_weights, training))
        on_epoch(epoch)
        training.ended_because = _reached(bounds, training, elapsed(), ranks)
    network.load_state_dict(best_weights)
    network.eval()
    return training


def _shared_step(loss: NextItemLoss, ranks: Ranks) -> nn.Module:
    """Return the loss, or one whose gradients are averaged over the processes as they come about."""
    if ranks.count == 1:
        return loss
    return DistributedDataParallel(loss, device_ids=[ranks.device] if ranks.device.type == "cuda" else None)


def _reached(bounds: Bounds, training: Training, seconds: float, ranks: Ranks) -> str:
    """Return which bound was reached, in words; "" for none."""
    number = len(training.epochs)
    if number and ranks.any(seconds >= bounds.max_seconds):
        return f"the time limit of {bounds.max_seconds:g} s"
    if training.best is not None and number - training.best.number >= bounds.patience:
        return f"{bounds.patience} epochs without a better validation"
    return f"the limit of {bounds.epochs} epochs" if number >= bounds.epochs else ""
