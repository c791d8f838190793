"""The network against a reference written with loops: padding and neighbours in the batch change nothing."""

import math
from collections.abc import Iterator
from typing import Literal

import numpy as np
import numpy.typing as npt
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from recstream.model.config import SasrecConfig
from recstream.model.net import Sasrec
from recstream.model.sequences import pad_right

Vector = npt.NDArray[np.float64]


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """These sizes gain nothing from threads, which crawl where another process wants the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


Architecture = Literal["sasrec-1", "sasrec-2"]


def make_network(*, n_heads: int = 2, architecture: Architecture = "sasrec-2") -> Sasrec:
    torch.manual_seed(7)
    network = Sasrec(
        SasrecConfig(
            architecture=architecture, n_items=30, max_length=12, d_model=8, n_blocks=3, n_heads=n_heads, dropout=0.5
        )
    )
    with torch.no_grad():  # large enough for attention, biases and norms to matter
        for parameter in network.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.4)
        network.item_embedding.weight[0].fill_(50.0)  # would be seen at once, did padding leak
    return network.eval()


def slow_hidden(network: Sasrec, history: list[int]) -> Vector:
    """Return the last position's output for one history, alone, unpadded, in float64 and one number at a time."""
    weights = {name: tensor.double().numpy() for name, tensor in network.state_dict().items()}

    def linear(name: str, x: Vector) -> Vector:
        matrix, bias = weights[f"{name}.weight"], weights[f"{name}.bias"]
        return np.array([sum(row[i] * x[i] for i in range(len(x))) + b for row, b in zip(matrix, bias, strict=True)])

    def norm(name: str, x: Vector) -> Vector:
        mean = sum(x) / len(x)
        variance = sum((value - mean) ** 2 for value in x) / len(x)
        scaled = (x - mean) / math.sqrt(variance + 1e-5)
        result: Vector = scaled * weights[f"{name}.weight"] + weights[f"{name}.bias"]
        return result

    def gelu(x: Vector) -> Vector:
        return np.array([0.5 * value * (1 + math.erf(value / math.sqrt(2))) for value in x])

    def sigmoid(x: Vector) -> Vector:
        return np.array([1 / (1 + math.exp(-value)) for value in x])

    gated = network.config.architecture == "sasrec-2"
    n_heads = network.config.n_heads
    width = network.config.d_model // n_heads
    length = len(history)
    x = [
        weights["item_embedding.weight"][code] + weights["position_embedding.weight"][length - 1 - t]
        for t, code in enumerate(history)
    ]
    for block in range(network.config.n_blocks):
        name = f"blocks.{block}"
        normed = [norm(f"{name}.attention_norm", vector) for vector in x]
        queries = [linear(f"{name}.attention.query", vector) for vector in normed]
        keys_values = [linear(f"{name}.attention.key_value", vector) for vector in normed]
        after = []
        for t in range(length):
            attended = []
            for head in range(n_heads):
                part = slice(head * width, (head + 1) * width)
                keys = [both[: len(both) // 2][part] for both in keys_values]
                values = [both[len(both) // 2 :][part] for both in keys_values]
                exponentials = [math.exp(sum(queries[t][part] * keys[s]) / math.sqrt(width)) for s in range(t + 1)]
                shares = [value / sum(exponentials) for value in exponentials]
                attended.append(sum(share * values[s] for s, share in enumerate(shares)))
            added = linear(f"{name}.attention.out", np.concatenate(attended))
            if gated:
                added = added * sigmoid(linear(f"{name}.attention_gate", x[t]))
            mixed = x[t] + added
            inner = linear(f"{name}.feed_forward.inner", norm(f"{name}.feed_forward_norm", mixed))
            if gated:
                through, gate = inner[: len(inner) // 2], inner[len(inner) // 2 :]
                added = linear(f"{name}.feed_forward.outer", through * gate * sigmoid(gate))
                after.append(mixed + added * sigmoid(linear(f"{name}.feed_forward_gate", mixed)))
            else:
                after.append(mixed + linear(f"{name}.feed_forward.outer", gelu(inner)))
        x = after
    return norm("final_norm", x[-1])


def batch(histories: list[list[int]]) -> tuple[torch.Tensor, torch.Tensor]:
    lengths = np.array([len(history) for history in histories], dtype=np.int64)
    codes = np.array([code for history in histories for code in history], dtype=np.int32)
    return torch.from_numpy(pad_right(codes, np.cumsum(lengths) - lengths, lengths)), torch.from_numpy(lengths)


histories_strategy = st.lists(st.lists(st.integers(1, 30), min_size=1, max_size=12), min_size=1, max_size=6)


@settings(max_examples=25, deadline=None)
@given(
    histories=histories_strategy,
    n_heads=st.sampled_from([1, 2]),
    architecture=st.sampled_from(["sasrec-1", "sasrec-2"]),
)
def test_any_batch_scores_as_each_history_alone(
    histories: list[list[int]], n_heads: int, architecture: Architecture
) -> None:
    network = make_network(n_heads=n_heads, architecture=architecture)
    codes, lengths = batch(histories)
    with torch.inference_mode():
        last = network.encode_last(codes, lengths)
        every = network(codes, lengths)
        scores = last @ network.item_vectors().T
    items = network.item_embedding.weight.detach().double().numpy()[1:]
    for row, history in enumerate(histories):
        expected = slow_hidden(network, history)
        np.testing.assert_allclose(last[row].numpy(), expected, rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(every[row, len(history) - 1].numpy(), expected, rtol=2e-4, atol=2e-5)
        np.testing.assert_allclose(scores[row].numpy(), items @ expected, rtol=2e-4, atol=2e-4)


def test_more_padding_than_needed_changes_nothing() -> None:
    network = make_network()
    codes, lengths = batch([[3, 1, 4], [1, 5]])
    wider = torch.nn.functional.pad(codes, (0, 9))
    with torch.inference_mode():
        torch.testing.assert_close(network.encode_last(wider, lengths), network.encode_last(codes, lengths))


def test_the_future_is_not_seen() -> None:
    """A position's output depends on later items only through how far it is from the end."""
    network = make_network()
    codes, lengths = batch([[3, 1, 4, 1, 5], [3, 1, 4, 9, 2]])
    with torch.inference_mode():
        hidden = network(codes, lengths)
    torch.testing.assert_close(hidden[0, :3], hidden[1, :3])
    assert not torch.allclose(hidden[0, 4], hidden[1, 4])


def test_gradients_are_finite_in_a_ragged_batch_and_none_reaches_padding() -> None:
    network = make_network().train()
    codes, lengths = batch([[1], [2, 3, 4, 5, 6, 7, 8]])
    network(codes, lengths)[codes > 0].sum().backward()
    for name, parameter in network.named_parameters():
        assert parameter.grad is not None, name
        assert torch.isfinite(parameter.grad).all(), name
    assert network.item_embedding.weight.grad is not None
    assert not network.item_embedding.weight.grad[0].any()


def test_weights_start_as_published() -> None:
    network = Sasrec(SasrecConfig(n_items=2_000, max_length=50))
    assert network.item_embedding.weight[1:].std().item() == pytest.approx(0.02, rel=0.05)
    assert not network.item_embedding.weight[0].any()


def test_rows_are_as_wide_as_the_longest() -> None:
    codes = np.arange(1, 11, dtype=np.int32)
    padded = pad_right(codes, np.array([4, 0, 9], dtype=np.int64), np.array([3, 0, 1], dtype=np.int64))
    assert padded.tolist() == [[5, 6, 7], [0, 0, 0], [10, 0, 0]]
    assert pad_right(codes, np.array([], dtype=np.int64), np.array([], dtype=np.int64)).shape == (0, 0)


@pytest.mark.parametrize(
    "values",
    [{"n_items": 0}, {"max_length": 0}, {"d_model": 7, "n_heads": 2}, {"dropout": 1.0}, {"n_blocks": -1}],
)
def test_an_impossible_shape_is_refused(values: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=r"must be"):
        SasrecConfig(**{"n_items": 5, "max_length": 5, **values})  # type: ignore[arg-type]


def test_a_configuration_survives_json() -> None:
    config = SasrecConfig(n_items=5, max_length=6, d_model=8, n_heads=2, dropout=0.1)
    assert SasrecConfig.from_json(config.to_json()) == config
    for broken in (b"{}", b'{"n_items":5,"max_length":0}', b'{"n_items":5,"max_length":6,"architecture":"other"}'):
        with pytest.raises(ValueError, match="unusable"):
            SasrecConfig.from_json(broken)
