"""Ragged histories as one padded batch, without a Python loop."""

import numpy as np
import numpy.typing as npt

from recstream.model.vocabulary import PADDING


def pad_right(
    codes: npt.NDArray[np.int32], starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
) -> npt.NDArray[np.int64]:
    """Return rows `codes[start : start + length]`, shape (B, L), padded on the right with 0; L is the longest length.

    Each range must lie within `codes`. A batch is as wide as its longest row, not as the model's maximum: the network's
    cost grows with the width. int64 because that is what the embedding's gradient takes.
    """
    width = int(lengths.max(initial=0))
    offsets = np.arange(width, dtype=np.int64)
    inside = offsets < lengths[:, None]
    padded = np.full((len(lengths), width), PADDING, dtype=np.int64)
    padded[inside] = codes[(starts[:, None] + offsets)[inside]]
    return padded
