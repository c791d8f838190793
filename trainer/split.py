"""What is trained on and what is held out: by each user's last items, or by one moment for all users.

Within a user items stand in the order of time, ties in the order of arrival (`interactions.py`).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from recstream.model.sequences import pad_right
from trainer.interactions import Interactions
from trainer.refusal import TrainingRefused


@dataclass(frozen=True, slots=True)
class Sequences:
    """Ragged rows of item codes: ranges of one shared array, which is never copied."""

    codes: npt.NDArray[np.int32]
    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.starts)

    def select(self, rows: npt.NDArray[np.int64] | npt.NDArray[np.bool_]) -> Self:
        """Return these rows, in this order."""
        return type(self)(self.codes, self.starts[rows], self.lengths[rows])

    def latest(self, length: int) -> Self:
        """Return each row's last `length` items."""
        lengths = np.minimum(self.lengths, length)
        return type(self)(self.codes, self.starts + self.lengths - lengths, lengths)

    def windows(self, length: int) -> Self:
        """Cut each row, from its end, into stretches of at most `length` items; neighbours share their border item.

        So every item but a row's first follows another in exactly one stretch. Rows and stretches have two at least.
        """
        step = length - 1
        counts = -(-(self.lengths - 1) // step)
        row = np.repeat(np.arange(len(self)), counts)
        nth = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
        ends = self.lengths[row] - nth * step
        lengths = np.minimum(ends, length)
        return type(self)(self.codes, self.starts[row] + ends - lengths, lengths)

    def padded(self) -> npt.NDArray[np.int64]:
        """Return all rows, padded on the right, shape (B, L)."""
        return pad_right(self.codes, self.starts, self.lengths)

    def pairs(self) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Return (row, code) of every item."""
        rows = np.repeat(np.arange(len(self), dtype=np.int64), self.lengths)
        within = np.arange(len(rows), dtype=np.int64) - np.repeat(np.cumsum(self.lengths) - self.lengths, self.lengths)
        return rows, self.codes[self.starts[rows] + within].astype(np.int64)


@dataclass(frozen=True, slots=True)
class HeldOut:
    """For each user what a model may see, and the item it should then rank first."""

    inputs: Sequences
    targets: npt.NDArray[np.int64]

    def __len__(self) -> int:
        return len(self.targets)

    def select(self, rows: npt.NDArray[np.int64]) -> Self:
        """Return these users, in this order."""
        return type(self)(self.inputs.select(rows), self.targets[rows])


@dataclass(frozen=True, slots=True)
class Split:
    """`train` holds rows of two items at least; `in_training` says of each interaction whether it is not held out."""

    train: Sequences
    validation: HeldOut
    test: HeldOut
    in_training: npt.NDArray[np.bool_]


def counts_of(data: Interactions, chosen: npt.NDArray[np.bool_]) -> npt.NDArray[np.int64]:
    """Return how often each item occurs among the chosen interactions: entry c - 1 is for code c."""
    return np.bincount(data.codes[chosen], minlength=data.n_items + 1)[1:]


def leave_one_out(data: Interactions) -> Split:
    """Hold out the last two items of each user with three or more: the last is the test, the other the validation.

    Users with two items are trained on and not measured with; users with one count towards popularity alone.
    """
    every = _histories(data)
    measured = every.select(every.lengths >= 3)
    ends = measured.starts + measured.lengths
    in_training = np.ones(len(data.codes), dtype=np.bool_)
    in_training[ends - 1] = in_training[ends - 2] = False
    train = Sequences(data.codes, every.starts, np.where(every.lengths >= 3, every.lengths - 2, every.lengths))
    return Split(
        train.select(train.lengths >= 2),
        HeldOut(Sequences(data.codes, measured.starts, measured.lengths - 2), _codes_at(data, ends - 2)),
        HeldOut(Sequences(data.codes, measured.starts, measured.lengths - 1), _codes_at(data, ends - 1)),
        in_training,
    )


def temporal(data: Interactions, held_out: float = 0.1) -> Split:
    """Cut all histories at one moment, so that nothing learnt is later than anything asked.

    The latest `held_out` share of the interactions is the test period and the same share of what is before it the
    validation period. Of each user who did something in a period, the last thing done in it is to be ranked first,
    by a model that reads all that the user did before (Gusak et al. 2025, arXiv:2507.16289, "Last"). Users without
    anything before are not measured with. Raises TrainingRefused where the data tell no times.
    """
    if data.times is None:
        raise TrainingRefused("A temporal split needs times, which this file does not tell; use leave-one-out.")
    test_after = moment_before_latest(data.times, held_out)
    validation_after = moment_before_latest(data.times[data.times <= test_after], held_out)
    in_training = data.times <= validation_after
    every = _histories(data)
    train = Sequences(data.codes, every.starts, _counts_until(data, validation_after))
    return Split(
        train.select(train.lengths >= 2),
        last_within(data, validation_after, test_after),
        last_within(data, test_after, None),
        in_training,
    )


def moment_before_latest(times: npt.NDArray[np.int64], share: float) -> int:
    """Return the latest moment that has at least `share` of the times after it, as far as ties allow."""
    latest_kept = max(0, int(len(times) * (1 - share)) - 1)
    return int(np.partition(times, latest_kept)[latest_kept])


def last_within(data: Interactions, after: int, until: int | None) -> HeldOut:
    """Return each user's last item later than `after` and not later than `until`, with all that came before it.

    Users without anything before it are left out. `data` must have times.
    """
    ends = _counts_until(data, until) if until is not None else np.diff(data.offsets)
    active = (ends > _counts_until(data, after)) & (ends >= 2)
    starts, lengths = data.offsets[:-1][active], ends[active] - 1
    return HeldOut(Sequences(data.codes, starts, lengths), _codes_at(data, starts + lengths))


def _histories(data: Interactions) -> Sequences:
    return Sequences(data.codes, data.offsets[:-1], np.diff(data.offsets))


def _counts_until(data: Interactions, moment: int) -> npt.NDArray[np.int64]:
    assert data.times is not None
    # Times rise within a user, so what is not later is a prefix of each history.
    counts: npt.NDArray[np.int64] = np.add.reduceat(data.times <= moment, data.offsets[:-1], dtype=np.int64)
    return counts


def _codes_at(data: Interactions, places: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
    return data.codes[places].astype(np.int64)
