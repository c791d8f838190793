"""What a model's training data look like to a worker: the reference that drift is measured against."""

import numpy as np
import numpy.typing as npt
import torch

from recstream.model.drift import DriftReference, Histogram
from trainer.evaluation import SasrecScorer, blocks
from trainer.interactions import Interactions
from trainer.split import Sequences

_SCORED_USERS = 5_000


def drift_reference(data: Interactions, scorer: SasrecScorer, max_length: int, seed: int) -> DriftReference:
    """Count every user's history length, and the best score of a sample of users, as serving would give it.

    Whole histories, the held-out items too: those are what requests will bring.
    """
    every = Sequences(data.codes, data.offsets[:-1], np.diff(data.offsets))
    sample = every
    if len(every) > _SCORED_USERS:
        rows: npt.NDArray[np.int64] = np.random.default_rng(seed).choice(len(every), _SCORED_USERS, replace=False)
        sample = every.select(rows)
    return DriftReference(
        history_length=Histogram.by_quantiles(np.minimum(every.lengths, max_length)),
        score=Histogram.by_quantiles(_best_scores(sample, scorer, data.n_items)),
    )


@torch.inference_mode()
def _best_scores(users: Sequences, scorer: SasrecScorer, n_items: int) -> npt.NDArray[np.float64]:
    """Return each user's highest score of an unseen item; users who have seen every item are left out."""
    best = []
    for rows in blocks(users.lengths, n_items):
        block = users.select(rows)
        scores_bn = scorer(block)
        seen_rows, seen_codes = (torch.from_numpy(each).to(scores_bn.device) for each in block.pairs())
        scores_bn[seen_rows, seen_codes - 1] = -torch.inf
        best.append(scores_bn.amax(1).cpu().double().numpy())
    scores = np.concatenate(best)
    finite: npt.NDArray[np.float64] = scores[np.isfinite(scores)]
    return finite if len(finite) else np.zeros(1)
