"""A training that is under way, on disk: should the process die, the next one goes on after its last epoch.

It lies beside the bundles, in a folder whose name no bundle has, and goes when the training has ended. It keeps its own
copy of the data: interactions go on arriving, and a training that went on with others would end as neither the old nor
a new one.
"""

import os
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import msgspec
import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from trainer.interactions import Interactions

FOLDER: Final = ".training"
_RECORD: Final = "run.json"
_DATA: Final = "data.safetensors"
_PROGRESS: Final = "progress.safetensors"


class _Record(msgspec.Struct, frozen=True):
    settings: dict[str, Any]
    cut: int | None
    item_ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Attempt:
    """An earlier training after one of its epochs. `cut` is the moment after which nothing is learnt from."""

    data: Interactions
    cut: int | None
    progress: bytes


class UnfinishedRun:
    """The folder of the training that runs; only its holder of the training lock may touch it.

    `settings` are those that decide what a training becomes: only one with the same is continued.
    """

    def __init__(self, checkpoints: Path, settings: Mapping[str, Any]) -> None:
        self._folder = checkpoints / FOLDER
        self._settings = dict(settings)
        self._begun = False

    def load(self) -> Attempt | None:
        """Return what was left of a training with these settings; None where there is none, or it is damaged."""
        try:
            record = msgspec.json.decode((self._folder / _RECORD).read_bytes(), type=_Record)
            if record.settings != self._settings:
                return None
            arrays = safetensors.numpy.load_file(self._folder / _DATA)
            data = Interactions(record.item_ids, arrays["codes"], arrays["offsets"], arrays.get("times"))
            progress = (self._folder / _PROGRESS).read_bytes()
        except (OSError, msgspec.DecodeError, SafetensorError, KeyError, ValueError):
            return None
        self._begun = True
        return Attempt(data, record.cut, progress)

    def save(self, data: Interactions, cut: int | None, progress: bytes) -> None:
        """Keep the state after an epoch; with the first one also the data."""
        if not self._begun:
            self.remove()
            self._folder.mkdir(parents=True)
            arrays: dict[str, np.ndarray] = {"codes": data.codes, "offsets": data.offsets}
            if data.times is not None:
                arrays["times"] = data.times
            _replace(self._folder / _DATA, safetensors.numpy.save(arrays))
            _replace(self._folder / _RECORD, msgspec.json.encode(_Record(self._settings, cut, data.item_ids)))
            self._begun = True
        _replace(self._folder / _PROGRESS, progress)

    def remove(self) -> None:
        """Forget it."""
        shutil.rmtree(self._folder, ignore_errors=True)
        self._begun = False


def _replace(path: Path, content: bytes) -> None:
    """Put the file in place whole: whatever kills the process, the old one or the new one is there."""
    temporary = path.with_name(f"{path.name}.new")
    with temporary.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
