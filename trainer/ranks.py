"""One training over several processes, as `torchrun` starts them: who this one is, and what they tell one another."""

import os
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.distributed as dist

from trainer.refusal import TrainingRefused


@dataclass(frozen=True, slots=True)
class Ranks:
    """This process's number and how many there are. Every method is called by all, in the same order."""

    rank: int = 0
    count: int = 1
    device: torch.device = torch.device("cpu")  # noqa: RUF009  # immutable

    def sum(self, values: list[float]) -> list[float]:
        """Return the sums over all processes."""
        if self.count == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return tensor.tolist()

    def any(self, flag: bool) -> bool:
        """Tell whether it is so for any process."""
        return flag if self.count == 1 else self.sum([float(flag)])[0] > 0

    def share(self, array: npt.NDArray[Any] | None) -> npt.NDArray[Any]:
        """Return what the first process gives, to all; the others give None."""
        if self.count == 1:
            assert array is not None
            return array
        kinds = ("int32", "int64", "uint8")
        header = torch.zeros(2, dtype=torch.int64, device=self.device)
        if array is not None:
            header = torch.tensor([len(array), kinds.index(array.dtype.name)], device=self.device)
        dist.broadcast(header, 0)
        length, kind = header.tolist()
        if array is None:
            array = np.empty(length, dtype=kinds[kind])
        content = torch.from_numpy(np.array(array, copy=True)).to(self.device)
        dist.broadcast(content, 0)
        return content.cpu().numpy()


def join(device: torch.device) -> Ranks:
    """Join the other processes, if `torchrun` started several; each takes a GPU of its own where there are GPUs.

    Raises TrainingRefused where a machine has fewer GPUs than processes.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    if count == 1:
        return Ranks(device=device)
    if device.type == "cuda":
        local = int(os.environ["LOCAL_RANK"])
        if local >= torch.cuda.device_count():
            raise TrainingRefused(
                f"This machine has {torch.cuda.device_count()} GPUs, too few for process {local + 1}."
            )
        device = torch.device("cuda", local)
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    return Ranks(dist.get_rank(), count, device)
