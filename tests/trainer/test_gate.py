"""Decisions on small worlds, where who is better is known."""

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import torch

from recstream.model.bundle import Bundle, open_bundle, write_bundle
from recstream.model.config import SasrecConfig
from recstream.model.manifest import CONFIG, POPULARITY, VOCABULARY, WEIGHTS, DataWindow
from recstream.model.net import Sasrec
from recstream.model.popularity import Popularity
from recstream.model.vocabulary import Vocabulary
from recstream.model.weights import save_weights
from recstream.ops.clock import from_us
from trainer.gate import bootstrap_interval, decide
from trainer.interactions import Interactions
from trainer.settings import TrainerSettings

N = 40
MINUTE = 60_000_000
SETTINGS = TrainerSettings(gate_min_users=20)


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def circles(users: int = 60, length: int = 12) -> Interactions:
    """Everybody goes round the same circle of items, one a minute."""
    codes = np.concatenate([(np.arange(length) + user) % N + 1 for user in range(users)]).astype(np.int32)
    return Interactions(
        item_ids=tuple(f"item-{code}" for code in range(1, N + 1)),
        codes=codes,
        offsets=np.arange(users + 1, dtype=np.int64) * length,
        times=np.tile(np.arange(1, length + 1) * MINUTE, users),
    )


def make_bundle(folder: Path, *, step: int, until: int, items: int = N, seed: int = 0) -> Bundle:
    """Return a model that names what lies `step` further on the circle, of the first `items`, first."""
    torch.manual_seed(seed)
    config = SasrecConfig(n_items=items, max_length=5, d_model=64, n_blocks=1, dropout=0.0)
    network = Sasrec(config)
    with torch.no_grad():
        # The blocks add nothing, so a position's output is its item's vector, which is the nearest to those of the
        # items `step` before and after it on the circle; those before have been seen.
        for parameter in network.blocks.parameters():
            parameter.zero_()
        network.position_embedding.weight.zero_()
        directions = torch.nn.functional.normalize(torch.randn(items, 64), dim=1)
        network.item_embedding.weight[1:] = directions + 0.9 * torch.roll(directions, -step, 0)
    counts = np.linspace(1, 0.1, items).tolist()
    ids = [f"item-{code}" for code in range(1, items + 1)]
    reference = write_bundle(
        folder,
        kind="sasrec",
        created_at=datetime(2026, 1, 1, tzinfo=UTC),
        data=DataWindow(first_at=from_us(0), last_at=from_us(until), interactions=1, users=1, items=items),
        parent=None,
        files={
            CONFIG: config.to_json(),
            WEIGHTS: save_weights(network),
            VOCABULARY: Vocabulary(ids).to_json(),
            POPULARITY: Popularity(ids, counts).to_json(),
        },
    )
    return open_bundle(folder, reference.folder, reference.manifest_sha256)


CUT = 9 * MINUTE
"""The last three items of each user are later."""


def test_the_better_model_goes_live_and_the_worse_does_not(tmp_path: Path) -> None:
    good, bad = (make_bundle(tmp_path, step=step, until=CUT) for step in (1, 7))
    decision = decide(good, bad, circles(), CUT, SETTINGS)
    assert (decision.promoted, decision.verdict, decision.hold_out.users) == (True, "better", 60)
    by_opponent = {each.opponent: each for each in decision.against}
    assert by_opponent.keys() == {bad.version, "popularity"}
    beside_bad = by_opponent[bad.version]
    assert beside_bad.candidate_ndcg > 0.9 > 2 * beside_bad.opponent_ndcg
    assert beside_bad.difference == pytest.approx(beside_bad.candidate_ndcg - beside_bad.opponent_ndcg)
    assert 0 < beside_bad.low < beside_bad.difference < beside_bad.high
    assert decision.windows == {"candidate": good.manifest.data, bad.version: bad.manifest.data}

    refused = decide(bad, good, circles(), CUT, SETTINGS)
    assert (refused.promoted, refused.verdict, refused.forced) == (False, "worse", False)
    assert good.version in refused.reason
    forced = decide(bad, good, circles(), CUT, SETTINGS.model_copy(update={"force": True}))
    assert (forced.promoted, forced.verdict, forced.forced) == (True, "worse", True)
    assert forced.reason.startswith("promoted by force, although: worse than")


def test_an_equal_one_goes_live(tmp_path: Path) -> None:
    one, other = (make_bundle(tmp_path, step=1, until=CUT, seed=seed) for seed in (0, 1))
    decision = decide(one, other, circles(), CUT, SETTINGS)
    assert (decision.promoted, decision.verdict) == (True, "not_worse")


def test_one_that_popularity_beats_does_not_go_live(tmp_path: Path) -> None:
    """Users 1 to 5 go round; everybody else takes the most popular unseen item."""
    data = circles()
    codes = data.codes.copy()
    for start, end in zip(data.offsets[:-1].tolist(), data.offsets[1:].tolist(), strict=True):
        codes[end - 1] = next(code for code in range(1, N + 1) if code not in codes[start : end - 1])
    popular = Interactions(data.item_ids, codes, data.offsets, data.times)
    decision = decide(make_bundle(tmp_path, step=7, until=CUT), None, popular, CUT, SETTINGS)
    assert (decision.promoted, decision.verdict) == (False, "worse")
    assert [each.opponent for each in decision.against] == ["popularity"]


@pytest.mark.parametrize("promote", [True, False])
def test_too_few_users_decide_nothing_and_a_setting_says_what_then(tmp_path: Path, promote: bool) -> None:
    good, bad = (make_bundle(tmp_path, step=step, until=CUT) for step in (1, 7))
    settings = TrainerSettings(gate_min_users=61, when_inconclusive="promote" if promote else "refuse")
    decision = decide(bad, good, circles(), CUT, settings)
    assert (decision.promoted, decision.verdict) == (promote, "inconclusive")
    assert "60 users to ask, 61 are needed" in decision.reason
    nobody = decide(bad, good, circles(), None, settings)
    assert (nobody.promoted, nobody.verdict, nobody.against) == (promote, "inconclusive", [])


def test_nothing_is_asked_that_either_model_has_learnt_from(tmp_path: Path) -> None:
    candidate = make_bundle(tmp_path, step=1, until=CUT)
    data = circles()
    assert data.times is not None
    times = data.times.copy()
    times[11::12][:25] = 10 * MINUTE  # the last of 25 users is what the live model has seen
    earlier = Interactions(data.item_ids, data.codes, data.offsets, np.sort(times.reshape(60, 12), 1).ravel())
    live = make_bundle(tmp_path, step=1, until=11 * MINUTE)
    decision = decide(candidate, live, earlier, CUT, SETTINGS)
    assert decision.hold_out.after == "1970-01-01T00:11:00+00:00"
    assert decision.hold_out.users == 35
    ended = decide(candidate, make_bundle(tmp_path, step=1, until=12 * MINUTE), data, CUT, SETTINGS)
    assert (ended.verdict, ended.hold_out.users) == ("inconclusive", 0)


def test_both_compete_over_the_union_of_their_catalogues(tmp_path: Path) -> None:
    whole, half = (make_bundle(tmp_path, step=1, until=CUT, items=items) for items in (N, N // 2))
    data = circles(users=40)
    decision = decide(whole, half, data, CUT, SETTINGS)
    (beside_half,) = (each for each in decision.against if each.opponent == half.version)
    # Half of the targets are not in the other's catalogue: it misses them, and nobody is left out.
    assert (decision.hold_out.users, decision.hold_out.unknown) == (40, 0)
    assert beside_half.opponent_ndcg < 0.55 < 0.9 < beside_half.candidate_ndcg
    reverse = decide(half, whole, data, CUT, SETTINGS)
    assert (reverse.hold_out.users, reverse.promoted) == (40, False)
    alone = decide(half, None, data, CUT, SETTINGS)
    assert (alone.hold_out.users, alone.hold_out.unknown) == (20, 20)


def test_who_comes_back_to_an_item_is_not_asked(tmp_path: Path) -> None:
    data = circles()
    codes = data.codes.copy()
    codes[11] = codes[0]
    decision = decide(
        make_bundle(tmp_path, step=1, until=CUT),
        None,
        Interactions(data.item_ids, codes, data.offsets, data.times),
        CUT,
        SETTINGS,
    )
    assert (decision.hold_out.users, decision.hold_out.repeats) == (59, 1)


def test_a_live_model_that_no_worker_can_load_holds_nothing_up(tmp_path: Path) -> None:
    candidate, live = (make_bundle(tmp_path, step=1, until=CUT, seed=seed) for seed in (0, 1))
    (tmp_path / live.version / WEIGHTS).write_bytes(b"damaged")
    decision = decide(candidate, live, circles(), CUT, SETTINGS)
    assert [each.opponent for each in decision.against] == ["popularity"]


def test_the_bootstrap_agrees_with_the_normal_interval() -> None:
    values = np.random.default_rng(1).normal(0.3, 1.0, 900)
    low, high = bootstrap_interval(values, seed=1)
    half = 1.96 * values.std() / 30
    assert low == pytest.approx(values.mean() - half, abs=0.01)
    assert high == pytest.approx(values.mean() + half, abs=0.01)
    assert bootstrap_interval(np.full(10, 0.5), seed=1) == (0.5, 0.5)
