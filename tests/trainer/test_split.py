from dataclasses import replace

import numpy as np
import pytest
import torch

from trainer.batches import epoch_batches, length_buckets
from trainer.defaults import batch_tokens, learning_rate, model_config
from trainer.interactions import Interactions
from trainer.refusal import TrainingRefused
from trainer.settings import TrainerSettings
from trainer.split import Sequences, counts_of, leave_one_out, temporal


def interactions(*histories: list[int], n_items: int = 9) -> Interactions:
    lengths = [len(history) for history in histories]
    return Interactions(
        item_ids=tuple(f"item-{code}" for code in range(1, n_items + 1)),
        codes=np.array([code for history in histories for code in history], dtype=np.int32),
        offsets=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        times=None,
    )


def rows(sequences: Sequences) -> list[list[int]]:
    return [
        sequences.codes[start : start + length].tolist()
        for start, length in zip(sequences.starts, sequences.lengths, strict=True)
    ]


def test_the_last_item_is_the_test_and_the_one_before_it_the_validation() -> None:
    split = leave_one_out(interactions([5, 3, 8, 1, 2], [7, 7, 4]))
    assert rows(split.train) == [[5, 3, 8]]  # one item of the second user is left, which predicts nothing
    assert rows(split.validation.inputs) == [[5, 3, 8], [7]]
    assert split.validation.targets.tolist() == [1, 7]
    assert rows(split.test.inputs) == [[5, 3, 8, 1], [7, 7]]
    assert split.test.targets.tolist() == [2, 4]


def test_short_histories_are_not_measured_with() -> None:
    data = interactions([1], [2, 3], [4, 5, 6])
    split = leave_one_out(data)
    assert rows(split.train) == [[2, 3]]
    assert rows(split.test.inputs) == [[4, 5]]
    assert counts_of(data, split.in_training).tolist() == [1, 1, 1, 1, 0, 0, 0, 0, 0]


def test_popularity_does_not_see_what_is_held_out() -> None:
    data = interactions([1, 1, 9, 9], [1, 2, 9])
    split = leave_one_out(data)
    assert counts_of(data, split.in_training).tolist() == [3, 0, 0, 0, 0, 0, 0, 0, 0]


def test_one_moment_cuts_all_histories() -> None:
    data = replace(
        interactions([1, 2, 3, 4], [5, 6, 7], [8, 9], [2], [3, 3, 4, 1, 5, 6, 7, 8, 9, 1]),
        times=np.array([1, 2, 14, 16, 4, 18, 19, 17, 20, 19, 1, 2, 3, 4, 5, 6, 7, 8, 9, 15]),
    )
    split = temporal(data, held_out=0.25)
    # Five of twenty are later than 16, four of the fifteen before that later than 8.
    assert rows(split.train) == [[1, 2], [3, 3, 4, 1, 5, 6, 7, 8]]
    assert rows(split.validation.inputs) == [[1, 2, 3], [3, 3, 4, 1, 5, 6, 7, 8, 9]]
    assert split.validation.targets.tolist() == [4, 1]
    # The third user's first item is later than 16 too, and is read; the fourth has nothing before the target.
    assert rows(split.test.inputs) == [[5, 6], [8]]
    assert split.test.targets.tolist() == [7, 9]
    assert counts_of(data, split.in_training).tolist() == [2, 1, 2, 1, 2, 1, 1, 1, 0]


def test_a_temporal_split_needs_times() -> None:
    with pytest.raises(TrainingRefused, match="needs times"):
        temporal(interactions([1, 2, 3]))


def test_windows_hold_every_step_once_and_end_where_the_history_ends() -> None:
    data = interactions([1, 2, 3, 4, 5, 6, 7, 8], [1, 2, 3], [4, 5])
    windows = leave_one_out(data).test.inputs.windows(4)  # of 7 items, and of 2; the third user is not measured with
    assert rows(windows) == [[4, 5, 6, 7], [1, 2, 3, 4], [1, 2]]
    ragged = sequences_of([2, 3, 4, 5, 6, 7, 29])
    for length in (2, 3, 5, 40):
        cut = ragged.windows(length)
        assert cut.lengths.min() >= 2
        assert cut.lengths.max() <= length
        assert sorted(steps_of(cut)) == sorted(steps_of(ragged))


def steps_of(sequences: Sequences) -> list[tuple[int, int]]:
    """Return (place, next place) of every step that is learnt."""
    ranges = zip(sequences.starts.tolist(), sequences.lengths.tolist(), strict=True)
    return [(place, place + 1) for start, size in ranges for place in range(start, start + size - 1)]


def test_processes_share_every_batch(ragged: Sequences) -> None:
    buckets = length_buckets(ragged, 60, np.random.default_rng(1))
    alone = list(epoch_batches(ragged, buckets, torch.device("cpu")))
    parts = [list(epoch_batches(ragged, buckets, torch.device("cpu"), rank, 3)) for rank in range(3)]
    for whole, *shares in zip(alone, *parts, strict=True):
        assert sum(each.share for each in shares) == pytest.approx(1)
        theirs = [each.targets_BL[each.targets_BL > 0] for each in shares if each.share > 0]
        assert sorted(torch.cat(theirs).tolist()) == sorted(whole.targets_BL[whole.targets_BL > 0].tolist())
        assert all(len(each.lengths_B) for each in shares)  # one with nothing to do takes part all the same
    assert any(len(bucket) < 3 for bucket in buckets)


def test_latest_and_pairs() -> None:
    split = leave_one_out(interactions([5, 3, 8, 1, 2], [7, 6, 4]))
    assert rows(split.test.inputs.latest(2)) == [[8, 1], [7, 6]]
    pair_rows, codes = split.test.inputs.pairs()
    assert pair_rows.tolist() == [0, 0, 0, 0, 1, 1]
    assert codes.tolist() == [5, 3, 8, 1, 7, 6]
    assert split.test.select(np.array([1])).targets.tolist() == [4]


@pytest.fixture
def ragged() -> Sequences:
    generator = np.random.default_rng(5)
    lengths = generator.integers(2, 40, 200)
    codes = generator.integers(1, 50, lengths.sum()).astype(np.int32)
    return Sequences(codes, np.cumsum(lengths) - lengths, lengths)


def test_an_epoch_takes_every_row_once_in_batches_of_like_lengths(ragged: Sequences) -> None:
    generator = np.random.default_rng(1)
    buckets = length_buckets(ragged, 300, generator)
    assert sorted(np.concatenate(buckets).tolist()) == list(range(200))
    assert all(ragged.lengths[bucket].sum() <= 300 + 40 for bucket in buckets)
    padded = sum(len(bucket) * ragged.lengths[bucket].max() for bucket in buckets)
    assert padded < 1.25 * ragged.lengths.sum()
    again = length_buckets(ragged, 300, generator)
    assert [bucket.tolist() for bucket in again] != [bucket.tolist() for bucket in buckets]


def test_a_row_longer_than_a_batch_is_a_batch(ragged: Sequences) -> None:
    buckets = length_buckets(ragged, 1, np.random.default_rng(1))
    assert sorted(np.concatenate(buckets).tolist()) == list(range(200))


def test_each_item_predicts_the_next_one() -> None:
    sequences = Sequences(np.array([1, 2, 3, 9, 8], dtype=np.int32), np.array([0, 3]), np.array([3, 2]))
    (batch,) = epoch_batches(sequences, [np.array([1, 0])], torch.device("cpu"))
    assert batch.codes_BL.tolist() == [[9, 0], [1, 2]]
    assert batch.targets_BL.tolist() == [[8, 0], [2, 3]]
    assert batch.lengths_B.tolist() == [1, 2]


def sequences_of(lengths: list[int]) -> Sequences:
    counts = np.array(lengths, dtype=np.int64)
    return Sequences(np.ones(counts.sum(), dtype=np.int32), np.cumsum(counts) - counts, counts)


@pytest.mark.parametrize(
    ("lengths", "expected"), [([3] * 100, 10), ([40] * 100, 40), ([1000] * 100, 200), ([20] * 90 + [60] * 10, 60)]
)
def test_the_models_reach_follows_from_the_data(lengths: list[int], expected: int) -> None:
    assert model_config(TrainerSettings(), sequences_of(lengths), 7).max_length == expected
    assert model_config(TrainerSettings(max_length=33), sequences_of(lengths), 7).max_length == 33


def test_batches_follow_from_the_data() -> None:
    assert batch_tokens(TrainerSettings(), sequences_of([10] * 10)) == 512
    assert batch_tokens(TrainerSettings(), sequences_of([100] * 1000)) == 781
    assert batch_tokens(TrainerSettings(), sequences_of([100] * 100_000)) == 8192
    assert batch_tokens(TrainerSettings(batch_tokens=7), sequences_of([10])) == 7
    assert learning_rate(TrainerSettings(), sequences_of([10] * 100)) == 3e-3
    assert learning_rate(TrainerSettings(), sequences_of([100] * 1000)) == 1e-3
    assert learning_rate(TrainerSettings(learning_rate=0.5), sequences_of([10])) == 0.5


def test_settings_that_contradict_one_another_are_refused() -> None:
    with pytest.raises(TrainingRefused, match=r"d_model \(64\) must be a multiple of n_heads \(3\)"):
        model_config(TrainerSettings(n_heads=3), sequences_of([5]), 7)
