"""Reference histograms and the population stability index."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.model.drift import DriftReference, Histogram, population_stability_index

COUNTS = st.lists(st.integers(0, 1_000_000), min_size=2, max_size=20)


def test_the_index_is_the_sum_of_its_definition() -> None:
    # Large counts, so that the pseudocount does not show.
    index = population_stability_index([500_000, 500_000], [750_000, 250_000])
    assert index == pytest.approx(0.25 * math.log(1.5) - 0.25 * math.log(0.5), rel=1e-4)


@given(COUNTS)
def test_it_is_symmetric_never_negative_and_zero_for_equal_shares(counts: list[int]) -> None:
    other = list(reversed(counts))
    assert population_stability_index(counts, counts) == 0
    forward, backward = population_stability_index(counts, other), population_stability_index(other, counts)
    assert forward == pytest.approx(backward)
    assert forward >= 0


def test_samples_of_the_same_traffic_are_stable_and_of_other_traffic_shifted() -> None:
    generator = np.random.default_rng(1)
    reference = Histogram.by_quantiles(generator.normal(3, 1, 5_000))

    def index(values: np.ndarray[tuple[int], np.dtype[np.float64]]) -> float:
        counts = [0] * len(reference.counts)
        for value in values.tolist():
            counts[reference.bin_of(value)] += 1
        return population_stability_index(reference.counts, counts)

    same = [index(generator.normal(3, 1, 500)) for _ in range(200)]
    assert max(same) < 0.1
    # Yurdakul 2018: (bins - 1)(1/n + 1/m) on average.
    assert np.mean(same) == pytest.approx(9 * (1 / 500 + 1 / 5_000), rel=0.4)
    assert index(generator.normal(4, 1, 500)) > 0.25
    assert index(np.full(500, 3.0)) > 1


@given(st.lists(st.integers(0, 500), min_size=1, max_size=200))
def test_a_histogram_counts_its_own_values(values: list[int]) -> None:
    histogram = Histogram.by_quantiles(np.array(values))
    counts = [0] * len(histogram.counts)
    for value in values:
        counts[histogram.bin_of(value)] += 1
    assert counts == histogram.counts
    assert (counts[0], counts[-1]) == (0, 0)
    assert all(counts[1:-1])
    assert len(counts) <= 22


def test_about_equally_many_values_fall_into_each_bin() -> None:
    assert Histogram.by_quantiles(np.arange(1, 101)).counts == [0, *[10] * 10, 0]


def test_a_value_that_is_half_of_all_stands_alone() -> None:
    histogram = Histogram.by_quantiles(np.array([*range(50), *[50] * 60, *range(51, 60)]))
    assert histogram.counts[histogram.bin_of(50)] == 60
    assert histogram.bin_of(49) < histogram.bin_of(50) < histogram.bin_of(51)


def test_what_was_never_seen_counts_outside() -> None:
    histogram = Histogram.by_quantiles(np.full(9, 3))
    assert histogram.counts == [0, 9, 0]
    assert [histogram.bin_of(value) for value in (2.9, 3, 3.1)] == [0, 1, 2]


def test_a_reference_comes_back_as_written() -> None:
    reference = DriftReference(history_length=Histogram([1.0, 2.0], [1, 2, 3]), score=Histogram([], [4]))
    assert DriftReference.from_json(reference.to_json()) == reference


@pytest.mark.parametrize(
    "histogram",
    ['{"edges": [], "counts": []}', '{"edges": [2, 1], "counts": [1, 1, 1]}', '{"edges": [1], "counts": [-1, 2]}',
     '{"edges": [1], "counts": [0, 0]}', '{"edges": "none", "counts": [1]}', "3"],
)  # fmt: skip
def test_what_is_no_histogram_is_refused(histogram: str) -> None:
    with pytest.raises(ValueError, match="drift reference is malformed"):
        DriftReference.from_json(f'{{"history_length": {histogram}, "score": {histogram}}}'.encode())
