"""Batches of like lengths, cut by how many items they hold."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from trainer.split import Sequences

_LENGTH_JITTER = 0.1


@dataclass(frozen=True, slots=True)
class Batch:
    """`targets_BL[b, t]` is the item that follows `codes_BL[b, t]`; both are 0 where padded."""

    codes_BL: Tensor  # noqa: N815  # shape suffixes, as in recstream/model/net.py
    lengths_B: Tensor  # noqa: N815
    targets_BL: Tensor  # noqa: N815
    share: float = 1.0
    """Of the batch's targets, those that are here; the rest is other processes'."""


def length_buckets(sequences: Sequences, batch_tokens: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Deal all rows into batches of about `batch_tokens` items, in random order and of nearly one length each.

    Sorted by a length that is jittered anew each epoch: rows meet ever other rows, and little padding is needed.
    """
    jitter = generator.uniform(1 - _LENGTH_JITTER, 1 + _LENGTH_JITTER, len(sequences))
    order = np.argsort(sequences.lengths * jitter, kind="stable")
    before = np.cumsum(sequences.lengths[order]) - sequences.lengths[order]
    batches = np.split(order, np.flatnonzero(np.diff(before // batch_tokens)) + 1)
    return [batches[index] for index in generator.permutation(len(batches))]


def epoch_batches(
    sequences: Sequences, buckets: list[np.ndarray], device: torch.device, rank: int = 0, ranks: int = 1
) -> Iterator[Batch]:
    """Yield each bucket as tensors on `device`: every item but the last predicts the next one.

    Of `ranks` processes each takes every `ranks`-th row; where a bucket has too few, a row whose share is nothing.
    """
    for bucket in buckets:
        rows = bucket[rank::ranks]
        targets = sequences.lengths[bucket].sum() - len(bucket)
        share = float((sequences.lengths[rows].sum() - len(rows)) / targets)
        chosen = sequences.select(rows if len(rows) else bucket[:1])
        inputs = Sequences(chosen.codes, chosen.starts, chosen.lengths - 1)
        following = Sequences(chosen.codes, chosen.starts + 1, chosen.lengths - 1)
        yield Batch(
            codes_BL=torch.from_numpy(inputs.padded()).to(device, non_blocking=True),
            lengths_B=torch.from_numpy(inputs.lengths).to(device, non_blocking=True),
            targets_BL=torch.from_numpy(following.padded()).to(device, non_blocking=True),
            share=share,
        )
