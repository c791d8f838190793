import json
from collections.abc import Callable, Iterator
from itertools import pairwise

import numpy as np
import pytest
import torch

from recstream.model.config import SasrecConfig
from recstream.model.net import Sasrec
from trainer import loss as loss_module
from trainer.batches import Batch, epoch_batches
from trainer.loss import NextItemLoss
from trainer.progress import Epoch, ProgressUnusable, Training
from trainer.split import Sequences
from trainer.training import Bounds, Recipe, TrainingFailed, train

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


def make_network(dropout: float = 0.0) -> Sasrec:
    torch.manual_seed(0)
    return Sasrec(SasrecConfig(n_items=N_ITEMS, max_length=10, d_model=16, n_blocks=1, dropout=dropout))


def run(
    network: Sasrec,
    validate: Callable[[], float],
    *,
    epochs: int = 15,
    patience: int = 99,
    max_seconds: float = 600,
    learning_rate: float = 0.01,
    negatives: int = 0,
    seen: list[Epoch] | None = None,
    saved: bytes | None = None,
    save: Callable[[bytes], None] | None = None,
) -> Training:
    return train(
        network,
        cycles(),
        validate,
        bounds=Bounds(epochs, max_seconds, patience),
        recipe=Recipe(batch_tokens=100, learning_rate=learning_rate, negatives=negatives, seed=3),
        saved=saved,
        on_epoch=(seen if seen is not None else []).append,
        save=save,
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
    monkeypatch.setitem(loss_module._LARGEST_LOGITS, "cpu", largest)
    loss = NextItemLoss(network, 0)(batch)
    loss.backward()
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
        mean = (8 * NextItemLoss(network, 0)(alone) + NextItemLoss(network, 0)(short)) / 9
        torch.testing.assert_close(NextItemLoss(network, 0)(both), mean)


def test_drawn_negatives_expect_the_full_softmax() -> None:
    """The mean denominator over many draws is the whole catalogue's."""
    network = make_network()
    one = Batch(torch.tensor([[3]]), torch.tensor([1]), torch.tensor([[5]]))
    with torch.no_grad():
        network.item_embedding.weight[1:] += torch.randn(N_ITEMS, 16)
        scores = network(one.codes_BL, one.lengths_B)[0, 0] @ network.item_vectors().T
        denominator = (scores - scores[4]).exp().sum().item()
        # Of one position the loss is its denominator's logarithm.
        draws = [NextItemLoss(network, 7)(one).exp().item() for _ in range(3000)]
    assert np.std(draws) > 0
    assert np.mean(draws) == pytest.approx(denominator, rel=0.05)


def test_it_learns_from_drawn_negatives_too() -> None:
    network, seen = make_network(), list[Epoch]()
    run(network, lambda: float(len(seen)), negatives=6, epochs=40, seen=seen)
    with torch.inference_mode():
        hidden = network.encode_last(torch.tensor([[4, 5, 6], [11, 12, 0]]), torch.tensor([3, 2]))
        assert ((hidden @ network.item_vectors().T).argmax(1) + 1).tolist() == [7, 1]


@pytest.mark.parametrize("negatives", [0, 6])
def test_a_training_that_goes_on_ends_like_one_that_never_stopped(negatives: int) -> None:
    """Weights, losses and the best epoch are the same to the last bit, with dropout and drawn negatives."""
    figures = [0.1, 0.4, 0.3, 0.2, 0.35]
    whole, saves = make_network(dropout=0.3), list[bytes]()
    told = iter(figures)
    unbroken = run(whole, lambda: next(told), epochs=5, negatives=negatives, save=saves.append)
    for after in range(1, 6):
        told = iter(figures[after:])
        torch.manual_seed(after)  # what a new process would have drawn by then does not matter
        network = make_network(dropout=0.3)
        resumed = run(network, lambda: next(told), epochs=5, negatives=negatives, saved=saves[after - 1])  # noqa: B023
        assert [epoch.loss for epoch in resumed.epochs] == [epoch.loss for epoch in unbroken.epochs]
        assert resumed.best is not None
        assert (resumed.best.number, resumed.ended_because) == (2, unbroken.ended_because)
        assert resumed.epochs[-1].seconds >= resumed.epochs[after - 1].seconds
        for name, tensor in network.state_dict().items():
            torch.testing.assert_close(tensor, whole.state_dict()[name], rtol=0, atol=0)


def test_damaged_progress_is_named() -> None:
    saves: list[bytes] = []
    run(make_network(), lambda: 0.1, epochs=1, save=saves.append)
    other = Sasrec(SasrecConfig(n_items=N_ITEMS, max_length=10, d_model=8, n_blocks=1))
    for network, content in ((make_network(), saves[0][:-9]), (make_network(), b"\x00" * 30), (other, saves[0])):
        with pytest.raises(ProgressUnusable):
            run(network, lambda: 0.1, epochs=2, saved=content)
