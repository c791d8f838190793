"""Weights to and from safetensors: numbers only, so that reading a file can execute nothing."""

import safetensors.torch
import torch
from safetensors import SafetensorError

from recstream.model.config import SasrecConfig
from recstream.model.manifest import BundleRejected
from recstream.model.net import Sasrec


def save_weights(network: Sasrec) -> bytes:
    """Return the network's parameters as a safetensors document in float32, wherever they live."""
    return safetensors.torch.save(
        {name: tensor.detach().to("cpu", torch.float32).contiguous() for name, tensor in network.state_dict().items()}
    )


def load_weights(config: SasrecConfig, content: bytes) -> Sasrec:
    """Return a network in evaluation mode with the weights in `content`, on the CPU.

    Raises BundleRejected where `content` is no safetensors document, its names, shapes or types are not those of
    `config`, or a number is not finite.
    """
    try:
        # From the bytes whose digest was checked, not from the path again: nothing can change in between.
        found = safetensors.torch.load(content)
    except (SafetensorError, ValueError, KeyError) as error:
        raise BundleRejected(f"The weights are not a readable safetensors document: {error}.") from error
    with torch.device("meta"):
        network = Sasrec(config)
    expected = network.state_dict()
    if found.keys() != expected.keys():
        different = ", ".join(sorted(found.keys() ^ expected.keys())[:5])
        raise BundleRejected(f"The weights do not belong to this configuration: {different} on one side only.")
    for name, tensor in found.items():
        if tensor.shape != expected[name].shape or tensor.dtype != torch.float32:
            raise BundleRejected(
                f"{name} is {_shape(tensor)}, where the configuration asks for {_shape(expected[name])}."
            )
        if not torch.isfinite(tensor).all():
            raise BundleRejected(f"{name} holds NaN or an infinite number.")
    network.load_state_dict(found, assign=True)
    return network.eval().requires_grad_(False)


def _shape(tensor: torch.Tensor) -> str:
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
