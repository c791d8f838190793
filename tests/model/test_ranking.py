import hashlib
import json
import math
import pickle
import struct
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from recstream.model.bundle import Bundle, open_bundle, write_bundle
from recstream.model.config import SasrecConfig
from recstream.model.manifest import BundleRejected, DataWindow
from recstream.model.net import Sasrec
from recstream.model.popularity import Popularity
from recstream.model.ranking import Query, Ranking, SasrecRanker
from recstream.model.vocabulary import Vocabulary
from recstream.model.weights import save_weights

ITEMS = [f"item-{number}" for number in range(40)]
CONFIG = SasrecConfig(n_items=len(ITEMS), max_length=6, d_model=8, n_blocks=2, n_heads=2)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    """These sizes gain nothing from threads, which crawl where another process wants the cores."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def make_files() -> dict[str, bytes]:
    torch.manual_seed(3)
    return {
        "weights.safetensors": save_weights(Sasrec(CONFIG)),
        "config.json": CONFIG.to_json(),
        "vocabulary.json": Vocabulary(ITEMS).to_json(),
        "popularity.json": Popularity(ITEMS, [1 / len(ITEMS)] * len(ITEMS)).to_json(),
    }


def make_bundle(checkpoints: Path, files: dict[str, bytes]) -> Bundle:
    window = DataWindow(first_at=None, last_at=None, interactions=0, users=0, items=0)
    reference = write_bundle(
        checkpoints, kind="sasrec", created_at=datetime.now(UTC), data=window, parent=None, files=files
    )
    return open_bundle(checkpoints, reference.folder, reference.manifest_sha256)


@pytest.fixture
def ranker(tmp_path: Path) -> SasrecRanker:
    return SasrecRanker.load(make_bundle(tmp_path, make_files()))


def ask(history: list[str], *, exclude: list[str] | None = None, exclude_seen: bool = True, k: int = 5) -> Query:
    return Query(history=history, exclude=exclude or [], exclude_seen=exclude_seen, k=k)


def slow_ranking(query: Query) -> Ranking:
    """One query at a time, in plain Python around the network's output for that history alone."""
    torch.manual_seed(3)
    network = Sasrec(CONFIG).eval()
    known = [ITEMS.index(item) + 1 for item in query.history if item in ITEMS]
    unknown = len(query.history) - len(known)
    used = known[-CONFIG.max_length :]
    if not used:
        return Ranking(items=[], history_length=0, unknown_items=unknown)
    with torch.no_grad():
        hidden = network(torch.tensor([used]), torch.tensor([len(used)]))[0, -1]
        scores = {item: float(hidden @ network.item_embedding.weight[code]) for code, item in enumerate(ITEMS, 1)}
    hidden_items = set(query.exclude) | (set(query.history) if query.exclude_seen else set())
    candidates = [(item, score) for item, score in scores.items() if item not in hidden_items]
    candidates.sort(key=lambda pair: -pair[1])
    return Ranking(items=candidates[: query.k], history_length=len(used), unknown_items=unknown)


def random_queries(seed: int) -> list[Query]:
    generator = np.random.default_rng(seed)
    ids = [*ITEMS, "unknown-1", "unknown-2"]
    return [
        ask(
            [ids[index] for index in generator.integers(0, len(ids), generator.integers(0, 15))],
            exclude=[ids[index] for index in generator.integers(0, len(ids), generator.integers(0, 10))],
            exclude_seen=bool(generator.integers(0, 2)),
            k=int(generator.integers(0, 45)),
        )
        for _ in range(generator.integers(1, 20))
    ]


@pytest.mark.parametrize("seed", range(12))
def test_a_batch_answers_as_one_by_one(ranker: SasrecRanker, seed: int) -> None:
    queries = random_queries(seed)
    rankings = ranker.rank(queries)
    assert len(rankings) == len(queries)
    for query, ranking in zip(queries, rankings, strict=True):
        expected = slow_ranking(query)
        assert [item for item, _ in ranking.items] == [item for item, _ in expected.items]
        np.testing.assert_allclose(
            [score for _, score in ranking.items], [score for _, score in expected.items], rtol=1e-4, atol=1e-6
        )
        assert (ranking.history_length, ranking.unknown_items) == (expected.history_length, expected.unknown_items)


def test_no_query_no_answer(ranker: SasrecRanker) -> None:
    assert ranker.rank([]) == []


def test_only_unknown_items_give_nothing(ranker: SasrecRanker) -> None:
    empty, unknown = ranker.rank([ask([]), ask(["nowhere", "never"], exclude=["item-1"])])
    assert empty == Ranking(items=[], history_length=0, unknown_items=0)
    assert unknown == Ranking(items=[], history_length=0, unknown_items=2)


def test_seen_items_beyond_the_models_reach_are_left_out_too(ranker: SasrecRanker) -> None:
    (ranking,) = ranker.rank([ask(ITEMS[:12], k=40)])
    assert ranking.history_length == CONFIG.max_length
    assert sorted(item for item, _ in ranking.items) == sorted(ITEMS[12:])


def test_fewer_items_than_asked_for(ranker: SasrecRanker) -> None:
    rankings = ranker.rank([ask(ITEMS, k=5), ask(ITEMS[:38], k=5), ask(["item-0"], k=1_000), ask(["item-0"], k=0)])
    assert [len(ranking.items) for ranking in rankings] == [0, 2, 39, 0]
    assert rankings[0].history_length == CONFIG.max_length


def test_scores_that_are_not_finite_are_shown(tmp_path: Path) -> None:
    ranker = SasrecRanker.load(make_bundle(tmp_path, make_files()))
    ranker._items_DN.mul_(float("nan"))
    (ranking,) = ranker.rank([ask(["item-0", "item-1"], k=3)])
    assert [math.isnan(score) for _, score in ranking.items] == [True] * 3


def tensors(content: bytes) -> dict[str, torch.Tensor]:
    return safetensors.torch.load(content)


def reshaped(content: bytes) -> bytes:
    return safetensors.torch.save(tensors(content) | {"position_embedding.weight": torch.zeros(7, 8)})


def with_nan(content: bytes) -> bytes:
    changed = tensors(content)
    changed["blocks.1.feed_forward.inner.bias"][3] = float("nan")
    return safetensors.torch.save(changed)


def with_infinity(content: bytes) -> bytes:
    changed = tensors(content)
    changed["item_embedding.weight"][-1, -1] = float("inf")
    return safetensors.torch.save(changed)


def without_a_tensor(content: bytes) -> bytes:
    changed = tensors(content)
    del changed["final_norm.bias"]
    return safetensors.torch.save(changed)


def with_another_tensor(content: bytes) -> bytes:
    return safetensors.torch.save(tensors(content) | {"extra": torch.zeros(1)})


def in_half_precision(content: bytes) -> bytes:
    return safetensors.torch.save({name: tensor.half() for name, tensor in tensors(content).items()})


def overflowing(content: bytes) -> bytes:
    """Finite weights whose scores are not."""
    return safetensors.torch.save({name: tensor.fill_(3e38) for name, tensor in tensors(content).items()})


def truncated(content: bytes) -> bytes:
    return content[:-100]


def with_a_lying_header(_content: bytes) -> bytes:
    header = b'{"a":{"dtype":"F32","shape":[1000000000],"data_offsets":[0,4000000000]}}'
    return struct.pack("<Q", len(header)) + header


class Explosive:
    executed = False

    def __reduce__(self) -> tuple[Callable[[], None], tuple[()]]:
        return explode, ()


def explode() -> None:
    Explosive.executed = True


def pickled(_content: bytes) -> bytes:
    return pickle.dumps(Explosive())


def saved_by_torch(content: bytes) -> bytes:
    import io

    buffer = io.BytesIO()
    torch.save(tensors(content), buffer)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (reshaped, r"position_embedding.weight is float32 \[7, 8\], where .* float32 \[6, 8\]"),
        (with_nan, "blocks.1.feed_forward.inner.bias holds NaN"),
        (with_infinity, "item_embedding.weight holds NaN or an infinite"),
        (without_a_tensor, "final_norm.bias on one side only"),
        (with_another_tensor, "extra on one side only"),
        (in_half_precision, "is float16"),
        (overflowing, "trial batch are not finite"),
        (truncated, "not a readable safetensors"),
        (with_a_lying_header, "not a readable safetensors"),
        (pickled, "not a readable safetensors"),
        (saved_by_torch, "not a readable safetensors"),
    ],
)
def test_weights_that_do_not_fit_are_rejected(tmp_path: Path, change: Callable[[bytes], bytes], reason: str) -> None:
    """Rejected although every digest is right: the fault lies in what was hashed."""
    files = make_files()
    files["weights.safetensors"] = change(files["weights.safetensors"])
    with pytest.raises(BundleRejected, match=reason):
        SasrecRanker.load(make_bundle(tmp_path, files))
    assert not Explosive.executed


def test_a_flipped_bit_in_the_weights_is_found(tmp_path: Path) -> None:
    bundle = make_bundle(tmp_path, make_files())
    file = tmp_path / bundle.version / "weights.safetensors"
    content = bytearray(file.read_bytes())
    content[-7] ^= 0x10
    file.write_bytes(content)
    with pytest.raises(BundleRejected, match="SHA-256"):
        SasrecRanker.load(bundle)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("vocabulary.json", Vocabulary(ITEMS[:-1]).to_json()),
        ("vocabulary.json", json.dumps({"item_ids": [*ITEMS[:-1], ITEMS[0]]}).encode()),
        ("vocabulary.json", b"not JSON"),
        ("config.json", b"{}"),
        ("config.json", SasrecConfig(n_items=40, max_length=6, d_model=8, n_blocks=2, n_heads=3 - 1).to_json()[:-1]),
        ("config.json", json.dumps({"n_items": 40, "max_length": 6, "d_model": 8, "n_heads": 3}).encode()),
        ("config.json", SasrecConfig(n_items=40, max_length=6, d_model=16, n_blocks=2, n_heads=2).to_json()),
        ("config.json", SasrecConfig(n_items=40, max_length=6, d_model=8, n_blocks=3, n_heads=2).to_json()),
    ],
)
def test_parts_that_do_not_fit_one_another_are_rejected(tmp_path: Path, name: str, content: bytes) -> None:
    with pytest.raises(BundleRejected):
        SasrecRanker.load(make_bundle(tmp_path, {**make_files(), name: content}))


def test_a_popularity_bundle_is_not_a_ranker(tmp_path: Path) -> None:
    window = DataWindow(first_at=None, last_at=None, interactions=0, users=0, items=0)
    reference = write_bundle(
        tmp_path,
        kind="popularity",
        created_at=datetime.now(UTC),
        data=window,
        parent=None,
        files={"popularity.json": Popularity(["a"], [1.0]).to_json()},
    )
    with pytest.raises(BundleRejected, match=r"holds no config\.json"):
        SasrecRanker.load(open_bundle(tmp_path, reference.folder, reference.manifest_sha256))


def test_what_is_saved_is_what_is_loaded(tmp_path: Path) -> None:
    files = make_files()
    bundle = make_bundle(tmp_path, files)
    digest = hashlib.sha256(files["weights.safetensors"]).hexdigest()
    assert bundle.manifest.files["weights.safetensors"] == digest
    assert bundle.read("weights.safetensors") == files["weights.safetensors"]
