"""A training after one of its epochs, as a file: enough to go on as if it had never stopped.

Safetensors, numbers only: weights now and at the best epoch, and Adam's state. What is drawn at random in an epoch
follows from the seed and the epoch's number, so no generator's state is kept.
"""

import msgspec
import safetensors
import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from recstream.model.net import Sasrec

_RECORD = "training"


class ProgressUnusable(ValueError):
    """The file is damaged or belongs to another network."""


class Epoch(msgspec.Struct, frozen=True):
    """One pass over the data, and what validation said of the model after it."""

    number: int
    loss: float
    """Mean cross-entropy a position, in nats."""
    ndcg: float
    seconds: float
    """Of training since its start; while it was interrupted does not count."""


class Training(msgspec.Struct):
    """What became of a training; the network itself holds the best epoch's weights once `ended_because` is set."""

    epochs: list[Epoch] = []
    best: Epoch | None = None
    ended_because: str = ""


def encode_progress(
    network: Sasrec, optimizer: torch.optim.Optimizer, best_weights: dict[str, Tensor], training: Training
) -> bytes:
    """Return the state as one document."""
    tensors = {f"now.{name}": tensor for name, tensor in network.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best_weights.items()}
    for number, state in optimizer.state_dict()["state"].items():
        tensors |= {f"adam.{number}.{name}": tensor for name, tensor in state.items()}
    return safetensors.torch.save(
        {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()},
        metadata={_RECORD: msgspec.json.encode(training).decode()},
    )


def restore_progress(
    content: bytes, network: Sasrec, optimizer: torch.optim.Optimizer
) -> tuple[Training, dict[str, Tensor]]:
    """Bring network and optimiser to the state in `content`; return the history and the best epoch's weights.

    Raises ProgressUnusable; network and optimiser must not be used then.
    """
    device = network.item_embedding.weight.device
    try:
        header = msgspec.json.decode(content[8 : 8 + int.from_bytes(content[:8], "little")])
        training = msgspec.json.decode(header["__metadata__"][_RECORD], type=Training)
        tensors = {name: tensor.to(device) for name, tensor in safetensors.torch.load(content).items()}
        parts: dict[str, dict[str, Tensor]] = {"now": {}, "best": {}, "adam": {}}
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            parts[part][rest] = tensor
        network.load_state_dict(parts["now"])
        state: dict[int, dict[str, Tensor]] = {}
        for name, tensor in parts["adam"].items():
            number, _, field = name.partition(".")
            state.setdefault(int(number), {})[field] = tensor
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    except (SafetensorError, msgspec.DecodeError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise ProgressUnusable(f"The saved progress is unusable: {str(error).splitlines()[0]}") from error
    return training, parts["best"]
