"""Metrics against figures worked out by hand."""

from collections.abc import Iterator
from math import log2

import numpy as np
import pytest
import torch
from torch import Tensor

from trainer import evaluation
from trainer.evaluation import Evaluation, PopularityScorer, evaluate
from trainer.refusal import TrainingRefused
from trainer.split import HeldOut, Sequences

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


def held_out(inputs: list[list[int]], targets: list[int]) -> HeldOut:
    lengths = np.array([len(codes) for codes in inputs], dtype=np.int64)
    codes = np.array([code for row in inputs for code in row], dtype=np.int32)
    return HeldOut(Sequences(codes, np.cumsum(lengths) - lengths, lengths), np.array(targets, dtype=np.int64))


def measure(inputs: list[int] | list[list[int]], target: int, scores: list[float]) -> Evaluation:
    history = [each for each in inputs if isinstance(each, int)]
    return evaluate(FixedScorer({history[0]: scores}), held_out([history], [target]), len(scores), CPU)


def test_a_worked_example() -> None:
    """Ranks 1, 2, 7 and 12 of 12 items."""
    scores = {
        1: [99.0, 3, 2, 1, 0, 0, 0, 0, 0, 0, 0, 0],  # target 2: first of the unseen
        2: [5.0, 99, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0],  # target 3: second, behind 1
        3: [9.0, 8, 99, 7, 6, 5, 4, 3, 0, 0, 0, 0],  # target 8: seventh, behind 1 2 4 5 6 7
        4: [1.0, 1, 1, 99, 1, 1, 1, 1, 1, 1, 1, 0],  # target 12: behind ten
    }
    result = evaluate(FixedScorer(scores), held_out([[1], [2], [3], [4]], [2, 3, 8, 12]), 12, CPU)
    assert (result.users, result.repeats) == (4, 0)
    first, second, seventh = 1.0, 1 / log2(3), 1 / log2(8)
    eleventh = 1 / log2(12)
    assert result.metrics["ndcg@5"] == pytest.approx((first + second) / 4)
    assert result.metrics["ndcg@10"] == pytest.approx((first + second + seventh) / 4)
    assert result.metrics["ndcg@20"] == pytest.approx((first + second + seventh + eleventh) / 4)
    assert [result.metrics[f"recall@{k}"] for k in (5, 10, 20)] == [0.5, 0.75, 1.0]
    assert result.metrics["mrr@5"] == pytest.approx((1 + 1 / 2) / 4)
    assert result.metrics["mrr@10"] == pytest.approx((1 + 1 / 2 + 1 / 7) / 4)
    assert result.metrics["coverage@20"] == 1.0


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
    result = evaluate(FixedScorer(scores), held_out([[1, 3], [2, 1]], [3, 3]), 4, CPU)
    assert (result.users, result.repeats) == (1, 1)
    assert result.metrics["mrr@5"] == 1.0
    with pytest.raises(TrainingRefused, match="No user is left"):
        measure([1, 3], 3, [0.0, 1, 2, 3])


def test_coverage_counts_what_is_shown_and_never_what_was_seen() -> None:
    n_items = 40
    scores = {1: [0.0] + [float(code) for code in range(2, 41)], 2: [float(code) for code in range(40, 0, -1)]}
    result = evaluate(FixedScorer(scores), held_out([[1, 40], [2, 1]], [3, 3]), n_items, CPU)
    # 39 to 35, and 3 to 7: the first user has seen 40, the second 1 and 2
    assert result.metrics["coverage@5"] == pytest.approx(10 / 40)
    few = evaluate(FixedScorer({1: [0.0, 1, 2]}), held_out([[1]], [3]), 3, CPU)
    assert few.metrics["coverage@20"] == pytest.approx(2 / 3)


def test_popularity_ranks_by_counts_and_equal_counts_by_the_list() -> None:
    scorer = PopularityScorer(np.array([2, 7, 7, 0, 2]), CPU)
    assert scorer(held_out([[1], [2]], [2, 3]).inputs)[0].argsort(descending=True).tolist() == [1, 2, 0, 4, 3]
    result = evaluate(scorer, held_out([[1], [2]], [3, 3]), 5, CPU)
    assert result.metrics["mrr@5"] == pytest.approx((1 / 2 + 1) / 2)


@pytest.mark.parametrize("limit", [1, 60, 1 << 24])
def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch, limit: int) -> None:
    generator = np.random.default_rng(0)
    inputs = [generator.permutation(20)[: generator.integers(1, 9)] + 1 for _ in range(50)]
    users = held_out([each.tolist() for each in inputs], generator.integers(1, 21, 50).tolist())
    scores = {code: generator.normal(size=20).tolist() for code in range(1, 21)}
    whole = evaluate(FixedScorer(scores), users, 20, CPU)
    monkeypatch.setattr(evaluation, "_LARGEST_SCORE_BLOCK", limit)
    monkeypatch.setattr(evaluation, "_LARGEST_INPUT_BLOCK", limit)
    assert evaluate(FixedScorer(scores), users, 20, CPU) == whole
    slow_ranks = []
    for row, target in zip(inputs, users.targets.tolist(), strict=True):
        if target not in row:
            own = scores[int(row[0])]
            unseen = [own[code - 1] for code in range(1, 21) if code not in row]
            slow_ranks.append(sum(score >= own[target - 1] for score in unseen))
    assert whole.users == len(slow_ranks)
    assert whole.metrics["mrr@20"] == pytest.approx(float(np.mean([1 / each for each in slow_ranks])))
