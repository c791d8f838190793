"""Histories of item ids in, ranked item ids out: what serving asks of a model."""

# ruff: noqa: N803, N806  # shape suffixes, as in net.py, are capital letters

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from typing import Self

import numpy as np
import numpy.typing as npt
import torch

from recstream.model.bundle import Bundle
from recstream.model.config import SasrecConfig
from recstream.model.manifest import CONFIG, WEIGHTS, BundleRejected
from recstream.model.net import Sasrec
from recstream.model.sequences import pad_right
from recstream.model.vocabulary import Vocabulary
from recstream.model.weights import load_weights


@dataclass(frozen=True, slots=True)
class Query:
    """One request: the history oldest first, further ids to leave out, and how many items to return (k >= 0)."""

    history: Sequence[str]
    exclude: Sequence[str]
    exclude_seen: bool
    k: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """The best items first, with their scores; how many history items the network read; how many it did not know.

    Without a known item `items` is empty. A score may be NaN or infinite where the network overflowed: whoever asked
    must look.
    """

    items: list[tuple[str, float]]
    history_length: int
    unknown_items: int


class SasrecRanker:
    """A verified model, ready to answer on the CPU. Calls change nothing, so any thread may make them."""

    def __init__(self, network: Sasrec, vocabulary: Vocabulary) -> None:
        self._network = network.eval()
        self._vocabulary = vocabulary
        self._items_DN = network.item_vectors().T
        self.max_length = network.config.max_length

    @classmethod
    def load(cls, bundle: Bundle) -> Self:
        """Build the ranker from a bundle's verified bytes and try it on a canary batch.

        Raises BundleRejected where the configuration, the weights and the vocabulary do not fit one another, a number
        is not finite, or the canary's scores are not.
        """
        try:
            config = SasrecConfig.from_json(bundle.read(CONFIG))
        except BundleRejected:
            raise
        except ValueError as error:
            raise BundleRejected(str(error)) from error
        vocabulary = bundle.vocabulary()
        if len(vocabulary) != config.n_items:
            raise BundleRejected(f"The vocabulary has {len(vocabulary)} items, the model {config.n_items}.")
        ranker = cls(load_weights(config, bundle.read(WEIGHTS)), vocabulary)
        ranker._try_canary_batch()
        return ranker

    def rank(self, queries: Sequence[Query]) -> list[Ranking]:
        """Answer all queries in one padded batch, in their order.

        A history's last `max_length` known items are read; `exclude_seen` leaves out every known item of the whole
        history. Fewer than k items come back where the catalogue has no more to offer.
        """
        if not queries:
            return []
        given = np.fromiter((len(query.history) for query in queries), dtype=np.int64, count=len(queries))
        codes = self._vocabulary.encode(chain.from_iterable(query.history for query in queries))
        rows = np.repeat(np.arange(len(queries)), given)
        known = codes > 0
        codes, rows = codes[known], rows[known]
        seen = np.bincount(rows, minlength=len(queries))
        used = np.minimum(seen, self.max_length)

        answerable = np.flatnonzero(seen)
        items: list[list[tuple[str, float]]] = [[] for _ in queries]
        if answerable.size:
            starts = np.cumsum(seen) - used
            best = self._best(
                pad_right(codes, starts[answerable], used[answerable]),
                used[answerable],
                *self._excluded(queries, answerable, codes, rows),
                np.fromiter((queries[row].k for row in answerable.tolist()), dtype=np.int64, count=len(answerable)),
            )
            for row, ranked in zip(answerable.tolist(), best, strict=True):
                items[row] = ranked
        return [
            Ranking(items=ranked, history_length=length, unknown_items=unknown)
            for ranked, length, unknown in zip(items, used.tolist(), (given - seen).tolist(), strict=True)
        ]

    def _excluded(
        self,
        queries: Sequence[Query],
        answerable: npt.NDArray[np.int64],
        codes: npt.NDArray[np.int32],
        rows: npt.NDArray[np.int64],
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return (row, column) of every score to hide; rows count the answerable queries, columns are code - 1."""
        hides_seen = np.fromiter((query.exclude_seen for query in queries), dtype=bool, count=len(queries))[rows]
        listed = np.fromiter((len(query.exclude) for query in queries), dtype=np.int64, count=len(queries))
        listed_codes = self._vocabulary.encode(chain.from_iterable(query.exclude for query in queries))
        listed_rows = np.repeat(np.arange(len(queries)), listed)
        all_codes = np.concatenate([codes[hides_seen], listed_codes]).astype(np.int64)
        all_rows = np.concatenate([rows[hides_seen], listed_rows])
        position = np.full(len(queries), -1, dtype=np.int64)
        position[answerable] = np.arange(len(answerable))
        all_rows = position[all_rows]
        wanted = (all_codes > 0) & (all_rows >= 0)
        # Each pair once, so that counting a row's pairs counts the items it loses.
        width = len(self._vocabulary)
        pairs = np.unique(all_rows[wanted] * width + all_codes[wanted] - 1)
        return pairs // width, pairs % width

    @torch.inference_mode()
    def _best(
        self,
        codes_BL: npt.NDArray[np.int64],
        lengths_B: npt.NDArray[np.int64],
        hidden_rows: npt.NDArray[np.int64],
        hidden_columns: npt.NDArray[np.int64],
        k_B: npt.NDArray[np.int64],
    ) -> list[list[tuple[str, float]]]:
        hidden_BD = self._network.encode_last(torch.from_numpy(codes_BL), torch.from_numpy(lengths_B))
        scores_BN = hidden_BD @ self._items_DN
        scores_BN[torch.from_numpy(hidden_rows), torch.from_numpy(hidden_columns)] = -torch.inf
        candidates_B = len(self._vocabulary) - np.bincount(hidden_rows, minlength=len(k_B))
        counts_B = np.clip(k_B, 0, candidates_B)
        top = scores_BN.topk(int(counts_B.max()), dim=1)
        item_ids = self._vocabulary.item_ids
        return [
            [(item_ids[column], score) for column, score in zip(columns[:count], scores[:count], strict=True)]
            for columns, scores, count in zip(top.indices.tolist(), top.values.tolist(), counts_B.tolist(), strict=True)
        ]

    def _try_canary_batch(self) -> None:
        """Score short, full and repeated histories, as serving will, and look for what is not a number."""
        generator = np.random.default_rng(0)
        lengths = np.array([1, 2, self.max_length, max(1, self.max_length // 2)], dtype=np.int64)
        codes = generator.integers(1, len(self._vocabulary) + 1, int(lengths.sum()), dtype=np.int32)
        batch = pad_right(codes, np.cumsum(lengths) - lengths, lengths)
        with torch.inference_mode():
            hidden_BD = self._network.encode_last(torch.from_numpy(batch), torch.from_numpy(lengths))
            if not torch.isfinite(hidden_BD @ self._items_DN).all():
                raise BundleRejected("The model's scores of a trial batch are not finite.")
