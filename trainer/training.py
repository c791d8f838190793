"""The training loop: full softmax over the catalogue, the best epoch by validation."""

# ruff: noqa: N806  # shape suffixes, as in recstream/model/net.py, are capital letters

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812  # its customary name
from torch import Tensor
from torch.nn import LinearCrossEntropyOptions

from recstream.model.net import Sasrec
from trainer.batches import Batch, epoch_batches, length_buckets
from trainer.refusal import TrainingRefused
from trainer.split import Sequences

_LARGEST_LOGITS = {"cpu": 1 << 25, "cuda": 1 << 28}
"""Elements of positions x items held at once, in float32: 128 MiB and 1 GiB."""


class TrainingFailed(TrainingRefused):
    """The loss left the finite numbers."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """When to stop."""

    epochs: int
    max_seconds: float
    patience: int


@dataclass(frozen=True, slots=True)
class Epoch:
    """One pass over the data, and what validation said of the model after it."""

    number: int
    loss: float
    """Mean cross-entropy a position, in nats."""
    ndcg: float
    seconds: float
    """Since the training's start."""


@dataclass(slots=True)
class Training:
    """What became of a training; the network itself holds the best epoch's weights."""

    epochs: list[Epoch] = field(default_factory=list)
    best: Epoch | None = None
    ended_because: str = ""


def train(
    network: Sasrec,
    sequences: Sequences,
    validate: Callable[[], float],
    *,
    bounds: Bounds,
    batch_tokens: int,
    learning_rate: float,
    seed: int,
    on_step: Callable[[int, int], None],
    on_epoch: Callable[[Epoch], None],
) -> Training:
    """Train `network` in place and leave it with the weights of the epoch that `validate` (NDCG@10) liked best.

    Runs on the device the network is on; on CUDA in bfloat16 where that is safe. `on_step` is told steps done and steps
    of the epoch, `on_epoch` each epoch. Raises TrainingFailed.
    """
    device = network.item_embedding.weight.device
    generator = np.random.default_rng(seed)
    rows = sequences.latest(network.config.max_length + 1)
    optimizer = torch.optim.Adam(network.parameters(), lr=learning_rate, betas=(0.9, 0.98), fused=True)
    started = time.monotonic()
    training = Training()
    best_weights: dict[str, Tensor] = {}
    while not training.ended_because:
        number = len(training.epochs) + 1
        network.train()
        buckets = length_buckets(rows, batch_tokens, generator)
        total_loss, positions = torch.zeros((), device=device), 0
        for done, batch in enumerate(epoch_batches(rows, buckets, device), start=1):
            loss = _next_item_loss(network, batch)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            count = int(rows.lengths[buckets[done - 1]].sum()) - len(buckets[done - 1])
            total_loss += loss.detach() * count
            positions += count
            on_step(done, len(buckets))
            if time.monotonic() - started >= bounds.max_seconds:
                training.ended_because = f"the time limit of {bounds.max_seconds:g} s"
                break
        mean_loss = float(total_loss) / positions
        if not np.isfinite(mean_loss):
            raise TrainingFailed(
                f"The loss is no longer finite after epoch {number}; "
                f"a lower learning rate than {learning_rate:g} may help."
            )
        network.eval()
        epoch = Epoch(number, mean_loss, validate(), time.monotonic() - started)
        training.epochs.append(epoch)
        on_epoch(epoch)
        if training.best is None or epoch.ndcg > training.best.ndcg:
            training.best = epoch
            best_weights = {name: tensor.detach().clone() for name, tensor in network.state_dict().items()}
        elif number - training.best.number >= bounds.patience:
            training.ended_because = f"{bounds.patience} epochs without a better validation"
        if number >= bounds.epochs and not training.ended_because:
            training.ended_because = f"the limit of {bounds.epochs} epochs"
    network.load_state_dict(best_weights)
    network.eval()
    return training


def _next_item_loss(network: Sasrec, batch: Batch) -> Tensor:
    """Return the mean cross-entropy of each position's next item among all items; positions of padding do not count."""
    device = batch.codes_BL.device.type
    with torch.autocast(device, dtype=torch.bfloat16, enabled=device == "cuda"):
        hidden_BLD = network(batch.codes_BL, batch.lengths_B)
        real_BL = batch.targets_BL > 0
        hidden_PD, targets_P = hidden_BLD[real_BL], batch.targets_BL[real_BL] - 1
        items_ND = network.item_vectors()
        chunk = max(1, _LARGEST_LOGITS[device] // len(items_ND))
        # Chunked, the logits of all positions never exist at once; where they would be few, one piece is quicker.
        options = LinearCrossEntropyOptions(batch_chunk_size=chunk) if len(hidden_PD) > chunk else None
        return F.linear_cross_entropy(hidden_PD, items_ND, targets_P, options=options)
