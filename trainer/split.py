"""Leave-one-out: each user's last item is the test, the one before it the validation, the rest is for training.

Within a user items stand in the order of time, ties in the order of arrival (`interactions.py`).
"""

from dataclasses import dataclass
from typing import Self

import numpy as np
import numpy.typing as npt

from recstream.model.sequences import pad_right
from trainer.interactions import Interactions


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
class LeaveOneOut:
    """`train` holds rows of two items at least; `train_counts[c - 1]` counts code c in what is not held out."""

    train: Sequences
    validation: HeldOut
    test: HeldOut
    train_counts: npt.NDArray[np.int64]


def leave_one_out(data: Interactions) -> LeaveOneOut:
    """Hold out the last two items of each user with three or more.

    Users with two items are trained on and not measured with; users with one count towards popularity alone.
    """
    every = Sequences(data.codes, data.offsets[:-1], np.diff(data.offsets))
    measured = every.select(every.lengths >= 3)
    ends = measured.starts + measured.lengths
    validation = HeldOut(
        Sequences(data.codes, measured.starts, measured.lengths - 2), data.codes[ends - 2].astype(np.int64)
    )
    test = HeldOut(Sequences(data.codes, measured.starts, measured.lengths - 1), data.codes[ends - 1].astype(np.int64))
    train = Sequences(data.codes, every.starts, np.where(every.lengths >= 3, every.lengths - 2, every.lengths))
    counts = np.bincount(data.codes, minlength=data.n_items + 1)
    for held_out in (validation, test):
        counts = counts - np.bincount(held_out.targets, minlength=data.n_items + 1)
    return LeaveOneOut(train.select(train.lengths >= 2), validation, test, counts[1:])
