"""Exact ranking metrics over the whole catalogue; never over sampled candidates.

Ranks count every item that the user has not seen yet. An item that ties with the target is counted before it, and so
is one whose score is NaN: neither can help a model. See Krichene & Rendle 2020, "On Sampled Metrics for Item
Recommendation", for why nothing is sampled.
"""

# ruff: noqa: N806  # shape suffixes, as in recstream/model/net.py, are capital letters

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from recstream.model.net import Sasrec
from trainer.refusal import TrainingRefused
from trainer.split import HeldOut, Sequences

CUTOFFS = (5, 10, 20)
_LARGEST_SCORE_BLOCK = 1 << 24
"""Scores held at once: 64 MiB in float32."""
_LARGEST_INPUT_BLOCK = 1 << 15
"""Items read at once."""


class Scorer(Protocol):
    """Scores every item for some users; greater is better."""

    def __call__(self, inputs: Sequences) -> Tensor:
        """Return scores_BN, column c - 1 for code c, as a tensor the caller may change."""
        ...


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics by name, such as `ndcg@10`; means over `users`.

    `repeats` counts users left out because their target is an item they had seen: with seen items masked it cannot be
    ranked, by any model.
    """

    users: int
    repeats: int
    metrics: dict[str, float]


class SasrecScorer:
    """The network's scores, as serving computes them."""

    def __init__(self, network: Sasrec, device: torch.device) -> None:
        self._network = network
        self._device = device

    def __call__(self, inputs: Sequences) -> Tensor:
        """Read each user's latest items and score the catalogue."""
        latest = inputs.latest(self._network.config.max_length)
        hidden_BD = self._network.encode_last(
            torch.from_numpy(latest.padded()).to(self._device), torch.from_numpy(latest.lengths).to(self._device)
        )
        return hidden_BD @ self._network.item_vectors().T


class PopularityScorer:
    """The same list for everybody. Equal counts stand in the order of the list, as they would be served."""

    def __init__(self, counts: npt.NDArray[np.int64], device: torch.device) -> None:
        order = np.argsort(-counts, kind="stable")
        scores = np.empty(len(counts), dtype=np.float32)
        scores[order] = -np.arange(len(counts))
        self._scores_N = torch.from_numpy(scores).to(device)

    def __call__(self, inputs: Sequences) -> Tensor:
        """Repeat the list for each user."""
        return self._scores_N.repeat(len(inputs), 1)


@torch.inference_mode()
def evaluate(scorer: Scorer, held_out: HeldOut, n_items: int, device: torch.device) -> Evaluation:
    """Rank every user's target among all items the user has not seen. Raises TrainingRefused where nobody is left."""
    ranks = []
    shown = {k: torch.zeros(n_items, dtype=torch.bool, device=device) for k in CUTOFFS}
    for rows in _blocks(held_out.inputs.lengths, n_items):
        users = held_out.select(rows)
        scores_BN = scorer(users.inputs)
        seen_rows, seen_codes = (torch.from_numpy(each).to(device) for each in users.inputs.pairs())
        scores_BN[seen_rows, seen_codes - 1] = -torch.inf
        target_scores_B1 = scores_BN.gather(1, torch.from_numpy(users.targets - 1).to(device)[:, None])
        rankable_B = ~torch.isneginf(target_scores_B1.squeeze(1))
        scores_BN, target_scores_B1 = scores_BN[rankable_B], target_scores_B1[rankable_B]
        # Not "greater or equal": a comparison with NaN is false, and NaN must count against the model.
        ranks.append((~(scores_BN < target_scores_B1)).sum(1))
        top = scores_BN.topk(min(max(CUTOFFS), n_items), dim=1)
        for k in CUTOFFS:
            shown[k][top.indices[:, :k][~torch.isneginf(top.values[:, :k])]] = True
    ranks_U = torch.cat(ranks).cpu().double() if ranks else torch.empty(0)
    if not len(ranks_U):
        raise TrainingRefused("No user is left to measure with: every held-out item had been seen before.")
    metrics: dict[str, float] = {}
    for k in CUTOFFS:
        hit_U = ranks_U <= k
        metrics[f"ndcg@{k}"] = float((hit_U / torch.log2(ranks_U + 1)).mean())
        metrics[f"recall@{k}"] = float(hit_U.double().mean())
        metrics[f"mrr@{k}"] = float((hit_U / ranks_U).mean())
        metrics[f"coverage@{k}"] = float(shown[k].double().mean())
    return Evaluation(users=len(ranks_U), repeats=len(held_out) - len(ranks_U), metrics=metrics)


def _blocks(lengths: npt.NDArray[np.int64], n_items: int) -> Iterator[npt.NDArray[np.int64]]:
    """Yield rows in blocks of like lengths that neither scores nor inputs make too large."""
    order = np.argsort(lengths, kind="stable")
    most = max(1, _LARGEST_SCORE_BLOCK // n_items)
    start = 0
    while start < len(order):
        # Lengths rise, so the last row of a block is its longest; bounded by seen items, of which all are masked.
        widths = lengths[order[start : start + most]]
        fits = np.arange(1, len(widths) + 1) * widths <= _LARGEST_INPUT_BLOCK
        count = max(1, int(fits.sum()))
        yield order[start : start + count]
        start += count
