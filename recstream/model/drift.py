"""Whether traffic is still like what a model was made on: reference histograms, and the population stability index.

PSI = sum over bins of (a - e) ln(a / e), with e the reference's share of a bin and a the traffic's: the symmetric form
of the Kullback-Leibler divergence. The customary reading is: below 0.1 stable, above 0.25 shifted (Siddiqi, "Credit
Risk Scorecards", 2006). With no shift at all its mean over samples of n and m is about (bins - 1)(1/n + 1/m) (Yurdakul,
"Statistical Properties of Population Stability Index", Western Michigan University, 2018), so that small samples look
shifted: a window must hold some hundred requests.
"""

import math
from bisect import bisect_left
from collections.abc import Sequence
from typing import Final, Self

import msgspec
import numpy as np
import numpy.typing as npt

BINS: Final = 10
_PSEUDOCOUNT: Final = 0.5
"""Added to every bin, so that an empty one has a logarithm (Jeffreys' prior)."""


class Histogram(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Counts between rising `edges`: bin i holds values above `edges[i - 1]` up to `edges[i]`; the outer ones are open.

    Raises ValueError where the numbers are not those of a histogram.
    """

    edges: list[float]
    counts: list[int]

    def __post_init__(self) -> None:
        if len(self.counts) != len(self.edges) + 1:
            raise ValueError(f"A histogram of {len(self.edges)} edges has {len(self.counts)} counts.")
        if not all(math.isfinite(edge) for edge in self.edges):
            raise ValueError("A histogram's edge is not finite.")
        if any(later <= earlier for earlier, later in zip(self.edges, self.edges[1:], strict=False)):
            raise ValueError("A histogram's edges must rise.")
        if min(self.counts) < 0 or sum(self.counts) == 0:
            raise ValueError("A histogram's counts are negative or all zero.")

    def bin_of(self, value: float) -> int:
        """Return the index of the bin that holds `value`."""
        return bisect_left(self.edges, value)

    @classmethod
    def by_quantiles(cls, values: npt.NDArray[np.float64] | npt.NDArray[np.int64], bins: int = BINS) -> Self:
        """Count finite `values` (at least one) in about `bins` bins that hold about equally many.

        A value that alone would fill a bin has one of its own; the two outer bins, for what was never seen, are empty.
        """
        distinct, repeats = np.unique(values.astype(np.float64), return_counts=True)
        share = len(values) / bins
        edges = [float(np.nextafter(distinct[0], -np.inf))]
        counts = [0, 0]
        previous = edges[0]
        for value, count in zip(distinct.tolist(), repeats.tolist(), strict=True):
            if counts[-1] and (counts[-1] >= share or count >= share):
                edges.append(previous)
                counts.append(0)
            counts[-1] += count
            previous = value
        return cls([*edges, previous], [*counts, 0])


class DriftReference(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What requests looked like in the data that a model was made from.

    `history_length`: known items that the network reads of each user's history. `score`: of the first-ranked item, for
    a sample of users.
    """

    history_length: Histogram
    score: Histogram

    def to_json(self) -> bytes:
        """Return the document that `from_json` reads."""
        return msgspec.json.encode(self)

    @classmethod
    def from_json(cls, encoded: bytes) -> Self:
        """Raises ValueError with a sentence where the document is malformed."""
        try:
            return msgspec.json.decode(encoded, type=cls)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ValueError(f"The drift reference is malformed: {error}.") from error


def population_stability_index(expected: Sequence[int], actual: Sequence[int]) -> float:
    """Return the PSI of two counts over the same bins; 0 where the shares are the same."""
    expected_total = sum(expected) + _PSEUDOCOUNT * len(expected)
    actual_total = sum(actual) + _PSEUDOCOUNT * len(actual)
    index = 0.0
    for expected_count, actual_count in zip(expected, actual, strict=True):
        e = (expected_count + _PSEUDOCOUNT) / expected_total
        a = (actual_count + _PSEUDOCOUNT) / actual_total
        index += (a - e) * math.log(a / e)
    return index
