"""What a network has to beat: lists of popular items, and neighbours of the items seen."""

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from trainer.interactions import Interactions
from trainer.split import Sequences, Split, counts_of

_NEIGHBOURS = 100
_DAY = 86_400_000_000


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


class NeighbourScorer:
    """Item-kNN: an item scores the sum of its cosine similarities to the items a user has seen.

    `implicit` finds each item's hundred nearest by who took what in training (Sarwar et al. 2001). Raises ImportError
    where that package is not installed: only `./run evaluate` and the tests need it.
    """

    def __init__(self, data: Interactions, split: Split, device: torch.device) -> None:
        # Here, because services do without these two packages.
        from implicit.nearest_neighbours import ItemItemRecommender
        from scipy.sparse import csr_matrix

        owners = np.repeat(np.arange(data.n_users), np.diff(data.offsets))[split.in_training]
        codes = data.codes[split.in_training]
        taken = csr_matrix((np.ones(len(codes)), (owners, codes - 1)), shape=(data.n_users, data.n_items))
        # Once, however often, and over the root of how many took the item: products of columns are then cosines.
        users_of_item = np.bincount(taken.indices, minlength=data.n_items)
        taken.data = 1 / np.sqrt(users_of_item[taken.indices])
        recommender = ItemItemRecommender(K=_NEIGHBOURS, num_threads=torch.get_num_threads())
        recommender.fit(taken, show_progress=False)
        self._similarity = recommender.similarity
        self._n_items = data.n_items
        self._device = device
        self._csr_matrix = csr_matrix

    def __call__(self, inputs: Sequences) -> Tensor:
        """Sum the similarities to each user's items."""
        rows, codes = inputs.pairs()
        seen = self._csr_matrix((np.ones(len(codes)), (rows, codes - 1)), shape=(len(inputs), self._n_items))
        return torch.from_numpy((seen @ self._similarity).toarray().astype(np.float32)).to(self._device)


def recent_counts(data: Interactions, split: Split, days: float) -> npt.NDArray[np.int64] | None:
    """Count the last days of what is trained on; None where the data tell no times."""
    if data.times is None:
        return None
    end = data.times[split.in_training].max()
    return counts_of(data, split.in_training & (data.times > end - round(days * _DAY)))
