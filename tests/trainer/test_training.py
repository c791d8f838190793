import json
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch

from recstream.model.config import SasrecConfig
from recstream.model.net import Sasrec
from trainer import training as training_module
from trainer.batches import epoch_batches
from trainer.split import Sequences
from trainer.training import Bounds, Epoch, Training, TrainingFailed, train

N_ITEMS = 12


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """These sizes gain nothing from threads, which crawl where another process wants the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def cycles(users: int = 40, length: int = 15) -> Sequences:
    """Everybody goes round the same circle of items, from different starts: the next item is always known."""
    codes = np.concatenate([(np.arange(length) + user) % N_ITEMS + 1 for user in range(users)]).astype(np.int32)
    lengths = np.full(users, length, dtype=np.int64)
    return Sequences(codes, np.cumsum(lengths) - lengths, lengths)


def make_network() -> Sasrec:
    torch.manual_seed(0)
    return Sasrec(SasrecConfig(n_items=N_ITEMS, max_length=10, d_model=16, n_blocks=1, dropout=0.0))


def run(
    network: Sasrec,
    validate: Callable[[], float],
    *,
    epochs: int = 15,
    patience: int = 99,
    max_seconds: float = 600,
    learning_rate: float = 0.01,
    seen: list[Epoch] | None = None,
) -> Training:
    return train(
        network,
        cycles(),
        validate,
        bounds=Bounds(epochs, max_seconds, patience),
        batch_tokens=100,
        learning_rate=learning_rate,
        seed=3,
        on_step=lambda _done, _total: None,
        on_epoch=(seen if seen is not None else []).append,
    )


def test_it_learns_what_can_be_learnt() -> None:
    network = make_network()
    seen: list[Epoch] = []
    training = run(network, lambda: float(len(seen)), seen=seen)
    losses = [epoch.loss for epoch in training.epochs]
    assert losses[0] == pytest.approx(np.log(N_ITEMS), rel=0.2)
    assert losses[-1] < 0.1
    with torch.inference_mode():
        hidden = network.encode_last(torch.tensor([[4, 5, 6], [11, 12, 0]]), torch.tensor([3, 2]))
        assert ((hidden @ network.item_vectors().T).argmax(1) + 1).tolist() == [7, 1]


def test_the_same_seed_gives_the_same_weights() -> None:
    first, second = make_network(), make_network()
    run(first, lambda: 0.0, epochs=2)
    run(second, lambda: 0.0, epochs=2)
    for name, tensor in first.state_dict().items():
        torch.testing.assert_close(tensor, second.state_dict()[name], rtol=0, atol=0)


def test_the_best_epochs_weights_come_back_and_patience_ends_it() -> None:
    network = make_network()
    snapshots: list[torch.Tensor] = []
    figures = iter([0.1, 0.3, 0.2, 0.3, 0.25])

    def validate() -> float:
        snapshots.append(network.item_embedding.weight.detach().clone())
        return next(figures)

    training = run(network, validate, patience=3)
    assert training.best is not None
    assert training.best.number == 2  # an equal one later is no better
    assert len(training.epochs) == 5
    assert "3 epochs" in training.ended_because
    assert all(not torch.equal(one, other) for one, other in pairwise(snapshots))
    torch.testing.assert_close(network.item_embedding.weight, snapshots[1], rtol=0, atol=0)
    assert not network.training


def test_time_ends_it_with_what_there_is() -> None:
    training = run(make_network(), lambda: 0.5, max_seconds=1e-9)
    assert len(training.epochs) == 1
    assert "time limit" in training.ended_because


def test_a_validation_of_zero_still_leaves_a_model() -> None:
    training = run(make_network(), lambda: 0.0, epochs=2)
    assert training.best is not None
    assert json.dumps(training.best.ndcg, allow_nan=False) == "0.0"


def test_a_loss_that_is_not_finite_ends_it_with_a_sentence() -> None:
    with pytest.raises(TrainingFailed, match="no longer finite"):
        run(make_network(), lambda: 0.0, learning_rate=1e30, epochs=5)


@pytest.mark.parametrize("largest", [1, 7 * N_ITEMS, 1 << 30])
def test_chunks_change_neither_loss_nor_gradient(monkeypatch: pytest.MonkeyPatch, largest: int) -> None:
    network = make_network()
    rows = cycles(users=6, length=9)
    (batch,) = epoch_batches(rows, [np.arange(6)], torch.device("cpu"))
    monkeypatch.setitem(training_module._LARGEST_LOGITS, "cpu", largest)
    loss = training_module._next_item_loss(network, batch)
    loss.backward()  # type: ignore[no-untyped-call]
    gradient = network.item_embedding.weight.grad
    assert gradient is not None

    reference = make_network()
    scores = reference(batch.codes_BL, batch.lengths_B) @ reference.item_vectors().T
    log_shares = torch.log_softmax(scores, dim=2)
    expected = -torch.stack([log_shares[b, t, batch.targets_BL[b, t] - 1] for b in range(6) for t in range(8)]).mean()
    expected.backward()  # type: ignore[no-untyped-call]
    torch.testing.assert_close(loss, expected)
    torch.testing.assert_close(gradient, reference.item_embedding.weight.grad)


def test_padding_is_not_learnt_from() -> None:
    network = make_network()
    long_alone = Sequences(np.arange(1, 10, dtype=np.int32), np.array([0]), np.array([9]))
    with_short = Sequences(np.arange(1, 12, dtype=np.int32), np.array([0, 9]), np.array([9, 2]))
    (alone,) = epoch_batches(long_alone, [np.arange(1)], torch.device("cpu"))
    (both,) = epoch_batches(with_short, [np.arange(2)], torch.device("cpu"))
    (short,) = epoch_batches(with_short, [np.array([1])], torch.device("cpu"))
    with torch.no_grad():
        mean = (
            8 * training_module._next_item_loss(network, alone) + training_module._next_item_loss(network, short)
        ) / 9
        torch.testing.assert_close(training_module._next_item_loss(network, both), mean)
