"""Settings that follow from the data."""

import math

import numpy as np
import torch

from recstream.model.config import SasrecConfig
from trainer.refusal import TrainingRefused
from trainer.settings import TrainerSettings
from trainer.split import Sequences

_FEW_ITEMS = 50_000
_LARGE_CATALOGUE = 100_000
_NEGATIVES = 4_096


def model_config(settings: TrainerSettings, histories: Sequences, n_items: int) -> SasrecConfig:
    """Return the network's shape; `histories` are what it will be asked to read.

    Raises TrainingRefused where the settings contradict one another.
    """
    try:
        return SasrecConfig(
            n_items=n_items,
            max_length=settings.max_length or _usual_length(histories),
            d_model=settings.d_model,
            n_blocks=settings.n_blocks,
            n_heads=settings.n_heads,
            dropout=settings.dropout,
        )
    except ValueError as error:
        raise TrainingRefused(str(error)) from error


def batch_tokens(settings: TrainerSettings, sequences: Sequences) -> int:
    """Return how many items make a batch: about 128 batches an epoch, within what runs well."""
    return settings.batch_tokens or min(max(int(sequences.lengths.sum()) // 128, 512), 8192)


def learning_rate(settings: TrainerSettings, sequences: Sequences) -> float:
    """Return Adam's step size: the customary 0.001, or thrice that for data whose epochs have few steps."""
    return settings.learning_rate or (3e-3 if sequences.lengths.sum() < _FEW_ITEMS else 1e-3)


def negatives(settings: TrainerSettings, n_items: int) -> int:
    """Return how many negatives a batch draws; 0, the full softmax, where the catalogue can be scored as a whole."""
    if settings.negatives is not None:
        return settings.negatives
    return 0 if n_items <= _LARGE_CATALOGUE else _NEGATIVES


def choose_device(settings: TrainerSettings) -> torch.device:
    """Return the device asked for. Raises TrainingRefused where there is no such device."""
    if settings.device == "cuda" and not torch.cuda.is_available():
        raise TrainingRefused("There is no CUDA device that torch can use; leave the device to `auto` or choose `cpu`.")
    if settings.device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return torch.device(settings.device)


def _usual_length(histories: Sequences) -> int:
    return min(200, max(10, math.ceil(np.percentile(histories.lengths, 95))))
