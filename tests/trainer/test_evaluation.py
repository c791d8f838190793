"""Metrics against figures worked out by hand."""

from collections.abc import Iterator
from dataclasses import replace
from math import log2, sqrt

import numpy as np
import numpy.typing as npt
import pytest
import torch
from torch import Tensor

from trainer import evaluation
from trainer.baselines import NeighbourScorer, PopularityScorer, recent_counts
from trainer.evaluation import Evaluation, evaluate, mean_ndcg
from trainer.interactions import Interactions
from trainer.refusal import TrainingRefused
from trainer.split import HeldOut, Sequences, leave_one_out

CPU = torch.device("cpu")
NAN = float("nan")


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """These sizes gain nothing from threads, which crawl where another process wants the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


class FixedScorer:
    """Scores by the user's first item, whose code is the user's number."""

    def __init__(self, scores: dict[int, list[float]]) -> None:
        self._scores = scores

    def __call__(self, inputs: Sequences) -> Tensor:
        return torch.tensor([self._scores[int(inputs.codes[start])] for start in inputs.starts])


def ones(n_items: int) -> npt.NDArray[np.int64]:
    """Training counts for when they do not matter."""
    return np.ones(n_items, dtype=np.int64)


def held_out(inputs: list[list[int]], targets: list[int]) -> HeldOut:
    lengths = np.array([len(codes) for codes in inputs], dtype=np.int64)
    codes = np.array([code for row in inputs for code in row], dtype=np.int32)
    return HeldOut(Sequences(codes, np.cumsum(lengths) - lengths, lengths), np.array(targets, dtype=np.int64))


def measure(inputs: list[int] | list[list[int]], target: int, scores: list[float]) -> Evaluation:
    history = [each for each in inputs if isinstance(each, int)]
    return evaluate(FixedScorer({history[0]: scores}), held_out([history], [target]), ones(len(scores)), CPU)


def test_a_worked_example() -> None:
    """Ranks 1, 2, 7 and 12 of 12 items."""
    scores = {
        1: [99.0, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0],  # target 2: first of the unseen
        2: [5.0, 99, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],  # target 3: second, behind 1
        3: [9.0, 8, 99, 7, 6, 5, 4, 3, 0, 0, 0, 0],  # target 8: seventh, behind 1 2 4 5 6 7
        4: [1.0, 1, 1, 99, 1, 1, 1, 1, 1, 1, 1, 0],  # target 12: behind ten
    }
    result = evaluate(FixedScorer(scores), held_out([[1], [2], [3], [4]], [2, 3, 8, 12]), ones(12), CPU)
    assert (result.users, result.repeats) == (4, 0)
    first, second, seventh = 1.0, 1 / log2(3), 1 / log2(8)
    eleventh = 1 / log2(12)
    assert result.metrics["ndcg@5"] == pytest.approx((first + second) / 4)
    assert result.metrics["ndcg@10"] == pytest.approx((first + second + seventh) / 4)
    assert result.metrics["ndcg@20"] == pytest.approx((first + second + seventh + eleventh) / 4)
    assert [result.metrics[f"recall@{k}"] for k in (5, 10, 20)] == [0.5, 0.75, 1.0]
    assert result.metrics["mrr@5"] == pytest.approx((1 + 1 / 2) / 4)
    assert result.metrics["mrr@10"] == pytest.approx((1 + 1 / 2 + 1 / 7) / 4)
    assert result.metrics["precision@5"] == pytest.approx(0.5 / 5)
    assert result.metrics["precision@20"] == pytest.approx(1 / 20)
    assert result.metrics["coverage@20"] == 1.0
    ndcg, users = mean_ndcg(FixedScorer(scores), held_out([[1], [2], [3], [4]], [2, 3, 8, 12]), 12, CPU)
    assert users == 4
    assert ndcg == pytest.approx(result.metrics["ndcg@10"])


def rank(result: Evaluation) -> int:
    return round(1 / result.metrics["mrr@20"])


def test_a_tie_counts_against_the_model() -> None:
    assert rank(measure([1], 3, [0.0, 5, 5, 5, 1])) == 3
    assert rank(measure([1], 3, [0.0, 0, 0, 0, 0])) == 4


def test_a_tie_with_a_seen_item_does_not_count() -> None:
    assert rank(measure([1, 2], 3, [5.0, 5, 5, 1, 1])) == 1


def test_nan_counts_against_the_model() -> None:
    assert rank(measure([1], 3, [0.0, NAN, 5, 1, NAN])) == 3
    assert rank(measure([1], 3, [0.0, 1, NAN, 1, 1])) >= 4


def test_a_target_seen_before_leaves_its_user_out() -> None:
    scores = {1: [0.0, 1, 2, 3], 2: [0.0, 0, 9, 0]}
    result = evaluate(FixedScorer(scores), held_out([[1, 3], [2, 1]], [3, 3]), ones(4), CPU)
    assert (result.users, result.repeats) == (1, 1)
    assert result.metrics["mrr@5"] == 1.0
    with pytest.raises(TrainingRefused, match="No user is left"):
        measure([1, 3], 3, [0.0, 1, 2, 3])


def test_coverage_counts_what_is_shown_and_never_what_was_seen() -> None:
    n_items = 40
    scores = {1: [0.0] + [float(code) for code in range(2, 41)], 2: [float(code) for code in range(40, 0, -1)]}
    result = evaluate(FixedScorer(scores), held_out([[1, 40], [2, 1]], [3, 3]), ones(n_items), CPU)
    # 39 to 35, and 3 to 7: the first user has seen 40, the second 1 and 2
    assert result.metrics["coverage@5"] == pytest.approx(10 / 40)
    few = evaluate(FixedScorer({1: [0.0, 1, 2]}), held_out([[1]], [3]), ones(3), CPU)
    assert few.metrics["coverage@20"] == pytest.approx(2 / 3)


def test_how_much_a_model_leans_on_what_is_popular() -> None:
    """Of eight items the first user is shown 3 4 5 6 7, the second 8 7 6 5 4."""
    scores = {1: [0.0, 0, 8, 7, 6, 5, 4, 3], 2: [0.0, 0, 3, 4, 5, 6, 7, 8]}
    counts = np.array([100, 50, 10, 8, 6, 4, 2, 0])
    result = evaluate(FixedScorer(scores), held_out([[1, 2], [2, 1]], [3, 8]), counts, CPU)
    assert result.metrics["arp@5"] == pytest.approx(((10 + 8 + 6 + 4 + 2) / 5 + (0 + 2 + 4 + 6 + 8) / 5) / 2)
    # Shown 0 0 1 1 2 2 2 2 times: the mean difference of all pairs over twice the mean.
    shown = [0, 0, 1, 2, 2, 2, 2, 1]
    differences = sum(abs(one - other) for one in shown for other in shown) / 64
    assert result.metrics["gini@5"] == pytest.approx(differences / (2 * 10 / 8))
    # All six unseen items are among anybody's first ten: nobody is shown what has been seen.
    assert result.metrics["arp@10"] == pytest.approx((10 + 8 + 6 + 4 + 2) / 6)


def test_everybody_shown_the_same_or_everything() -> None:
    same = {1: [0.0, 9, 8, 7, 6, 5] + [0.0] * 94, 2: [0.0, 9, 8, 7, 6, 5] + [0.0] * 94}
    result = evaluate(FixedScorer(same), held_out([[1], [2, 1]], [2, 3]), ones(100), CPU)
    assert result.metrics["gini@5"] > 0.93
    everything = evaluate(FixedScorer({1: [0.0, 3, 2, 1]}), held_out([[1]], [3]), ones(4), CPU)
    assert everything.metrics["gini@20"] == pytest.approx(1 - 3 / 4)  # all but the seen one, alike


def test_popularity_ranks_by_counts_and_equal_counts_by_the_list() -> None:
    scorer = PopularityScorer(np.array([2, 7, 7, 0, 2]), CPU)
    assert scorer(held_out([[1], [2]], [2, 3]).inputs)[0].argsort(descending=True).tolist() == [1, 2, 0, 4, 3]
    result = evaluate(scorer, held_out([[1], [2]], [3, 3]), ones(5), CPU)
    assert result.metrics["mrr@5"] == pytest.approx((1 / 2 + 1) / 2)


def test_neighbours_score_by_the_cosine_of_who_took_them() -> None:
    histories = [[1, 2, 3], [1, 2, 4], [1, 4, 5], [2, 2, 5]]
    data = Interactions(
        item_ids=tuple("abcde"),
        codes=np.array([code for history in histories for code in history], dtype=np.int32),
        offsets=np.array([0, 3, 6, 9, 12]),
        times=None,
    )
    split = leave_one_out(data)  # trains on [1] [1] [1] [2]
    whole = replace(split, in_training=np.ones(12, dtype=np.bool_))
    scores = NeighbourScorer(data, whole, CPU)(held_out([[1], [2, 5]], [2, 3]).inputs)
    users_of = {1: {0, 1, 2}, 2: {0, 1, 3}, 3: {0}, 4: {1, 2}, 5: {2, 3}}

    def cosine(one: int, other: int) -> float:
        return len(users_of[one] & users_of[other]) / sqrt(len(users_of[one]) * len(users_of[other]))

    assert scores[0].tolist() == pytest.approx([cosine(1, code) for code in range(1, 6)])
    assert scores[1].tolist() == pytest.approx([cosine(2, code) + cosine(5, code) for code in range(1, 6)])
    held = NeighbourScorer(data, split, CPU)(held_out([[1]], [2]).inputs)
    assert held[0, 1:].tolist() == [0, 0, 0, 0]  # what is held out is no neighbour


def test_what_was_popular_in_the_last_days_of_training() -> None:
    day = 86_400_000_000
    data = Interactions(
        item_ids=tuple("abc"),
        codes=np.array([1, 1, 2, 3, 3, 1, 2, 2, 3, 3], dtype=np.int32),
        offsets=np.array([0, 5, 10]),
        times=np.array([1, 5, 9, 20, 21, 2, 8, 9, 30, 31]) * day,
    )
    split = leave_one_out(data)  # trains until day 9
    counts = recent_counts(data, split, days=4)
    assert counts is not None
    assert counts.tolist() == [0, 3, 0]
    assert recent_counts(replace(data, times=None), split, days=4) is None


@pytest.mark.parametrize("limit", [1, 60, 1 << 24])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    generator = np.random.default_rng(0)
    inputs = [generator.permutation(20)[: generator.integers(1, 9)] + 1 for _ in range(50)]
    users = held_out([each.tolist() for each in inputs], generator.integers(1, 21, 50).tolist())
    scores = {code: generator.normal(size=20).tolist() for code in range(1, 21)}
    whole = evaluate(FixedScorer(scores), users, ones(20), CPU)
    monkeypatch.setattr(evaluation, "_LARGEST_SCORE_BLOCK", limit)
    monkeypatch.setattr(evaluation, "_LARGEST_INPUT_BLOCK", limit)
    assert evaluate(FixedScorer(scores), users, ones(20), CPU) == whole
    slow_ranks = []
    for row, target in zip(inputs, users.targets.tolist(), strict=True):
        if target not in row:
            own = scores[int(row[0])]
            unseen = [own[code - 1] for code in range(1, 21) if code not in row]
            slow_ranks.append(sum(score >= own[target - 1] for score in unseen))
    assert whole.users == len(slow_ranks)
    assert whole.metrics["mrr@20"] == pytest.approx(float(np.mean([1 / each for each in slow_ranks])))
