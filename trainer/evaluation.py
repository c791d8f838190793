"""Exact ranking metrics over the whole catalogue; never over sampled candidates.

Ranks count every item that the user has not seen yet. An item that ties with the target is counted before it, and so
is one whose score is NaN: neither can help a model. See Krichene & Rendle 2020, "On Sampled Metrics for Item
Recommendation", for why nothing is sampled.

How much a model leans on what is popular: `arp` is the average recommendation popularity, the mean number of training
interactions of what is shown (Yin et al. 2012, "Challenging the Long Tail Recommendation"; Abdollahpouri et al. 2019,
arXiv:1901.07555), and `gini` the Gini coefficient of how often each item of the catalogue is shown (Fleder & Hosanagar
2009, "Blockbuster Culture's Next Rise or Fall").
"""

# ruff: noqa: N803, N806  # shape suffixes, as in recstream/model/net.py, are capital letters

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


@torch.inference_mode()
def evaluate(
    scorer: Scorer, held_out: HeldOut, train_counts: npt.NDArray[np.int64], device: torch.device
) -> Evaluation:
    """Rank every user's target among all items the user has not seen.

    `train_counts[c - 1]` is how often code c occurs in training; its length is the catalogue's. Raises TrainingRefused
    where nobody is left to measure with.
    """
    n_items = len(train_counts)
    counts_N = torch.from_numpy(train_counts).to(device, torch.float64)
    ranks = []
    shown = {k: torch.zeros(n_items, dtype=torch.float64, device=device) for k in CUTOFFS}
    popularity = {k: torch.zeros((), dtype=torch.float64, device=device) for k in CUTOFFS}
    for scores_BN, ranks_B in _ranked_blocks(scorer, held_out, n_items, device):
        ranked_B = ranks_B > 0
        ranks.append(ranks_B[ranked_B])
        top = scores_BN[ranked_B].topk(min(max(CUTOFFS), n_items), dim=1)
        for k in CUTOFFS:
            real_BK = ~torch.isneginf(top.values[:, :k])
            codes_BK = top.indices[:, :k]
            shown[k] += torch.bincount(codes_BK[real_BK], minlength=n_items)
            means_B = (counts_N[codes_BK] * real_BK).sum(1) / real_BK.sum(1).clamp(min=1)
            popularity[k] += means_B.sum()
    ranks_U = torch.cat(ranks).cpu().double() if ranks else torch.empty(0)
    if not len(ranks_U):
        raise TrainingRefused("No user is left to measure with: every held-out item had been seen before.")
    metrics: dict[str, float] = {}
    for k in CUTOFFS:
        hit_U = ranks_U <= k
        metrics[f"ndcg@{k}"] = float(gains(ranks_U, k).mean())
        metrics[f"recall@{k}"] = float(hit_U.double().mean())
        metrics[f"precision@{k}"] = float(hit_U.double().mean()) / k
        metrics[f"mrr@{k}"] = float((hit_U / ranks_U).mean())
        metrics[f"coverage@{k}"] = float((shown[k] > 0).double().mean())
        metrics[f"arp@{k}"] = float(popularity[k]) / len(ranks_U)
        metrics[f"gini@{k}"] = _gini(shown[k])
    return Evaluation(users=len(ranks_U), repeats=len(held_out) - len(ranks_U), metrics=metrics)


@torch.inference_mode()
def mean_ndcg(scorer: Scorer, held_out: HeldOut, n_items: int, device: torch.device, k: int = 10) -> tuple[float, int]:
    """Return NDCG@k alone and over how many users, as `evaluate` does, in less time; 0 and 0 where nobody is left."""
    ranks = [ranks_B[ranks_B > 0] for _, ranks_B in _ranked_blocks(scorer, held_out, n_items, device)]
    ranks_U = torch.cat(ranks) if ranks else torch.empty(0)
    return (float(gains(ranks_U.double().cpu(), k).mean()), len(ranks_U)) if len(ranks_U) else (0.0, 0)


def gains(ranks_U: Tensor, k: int) -> Tensor:
    """Return each rank's part in NDCG@k: one target a user, so the ideal is 1."""
    return (ranks_U <= k) / torch.log2(ranks_U + 1)


def _ranked_blocks(
    scorer: Scorer, held_out: HeldOut, n_items: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the scores of a block of users, minus infinity where seen, and their targets' ranks, 0 where seen."""
    for rows in blocks(held_out.inputs.lengths, n_items):
        users = held_out.select(rows)
        scores_BN = scorer(users.inputs)
        seen_rows, seen_codes = (torch.from_numpy(each).to(device) for each in users.inputs.pairs())
        scores_BN[seen_rows, seen_codes - 1] = -torch.inf
        target_scores_B1 = scores_BN.gather(1, torch.from_numpy(users.targets - 1).to(device)[:, None])
        # Not "greater or equal": a comparison with NaN is false, and NaN must count against the model.
        ranks_B = (~(scores_BN < target_scores_B1)).sum(1)
        yield scores_BN, ranks_B.where(~torch.isneginf(target_scores_B1.squeeze(1)), 0)


def _gini(shown_N: Tensor) -> float:
    """Return 0 where every item is shown equally often, towards 1 the fewer items share all the places."""
    ordered_N = shown_N.sort().values
    n = len(ordered_N)
    places_N = torch.arange(1, n + 1, dtype=torch.float64, device=shown_N.device)
    return float(2 * (places_N * ordered_N).sum() / (n * ordered_N.sum()) - (n + 1) / n)


def blocks(lengths: npt.NDArray[np.int64], n_items: int) -> Iterator[npt.NDArray[np.int64]]:
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
