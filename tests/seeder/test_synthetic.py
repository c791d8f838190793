import hashlib
from collections import defaultdict
from datetime import UTC, datetime

import numpy as np
import pytest
from numpy.typing import NDArray

from recstream.messages.identifiers import is_identifier
from seeder.records import Interaction
from seeder.synthetic import GENRES, SyntheticSettings, SyntheticSource
from seeder.titles import MOST_SERIES_A_GENRE, series_titles


@pytest.fixture(scope="module")
def source() -> SyntheticSource:
    return SyntheticSource(SyntheticSettings())


@pytest.fixture(scope="module")
def rows(source: SyntheticSource) -> list[Interaction]:
    return list(source.rows())


def _histories(rows: list[Interaction]) -> dict[str, list[int]]:
    histories: dict[str, list[int]] = defaultdict(list)
    for row in rows:
        if row.event_type != "dismiss":
            histories[row.user_id].append(int(row.item_id))
    return histories


def test_the_default_rows_are_these_on_every_machine(source: SyntheticSource, rows: list[Interaction]) -> None:
    """A change here gives every demo other data, and its documented figures with it."""
    items = [tuple(item) for item in source.items().rows]
    content = repr((items, [tuple(row) for row in rows])).encode()
    assert hashlib.sha256(content).hexdigest() == "3d55e202e81ac2923bdcfa8de37987ca2862b7b16242b816ea95f96e01d5bc25"


def test_the_seed_decides(rows: list[Interaction]) -> None:
    assert list(SyntheticSource(SyntheticSettings()).rows()) == rows
    assert list(SyntheticSource(SyntheticSettings(seed=7)).rows()) != rows


def test_a_user_is_the_same_among_more_users(rows: list[Interaction]) -> None:
    more = SyntheticSource(SyntheticSettings(users=101)).rows()
    assert [row for row in more if row.user_id != "user_101"] == rows


def test_users_and_their_events(source: SyntheticSource, rows: list[Interaction]) -> None:
    assert {row.user_id for row in rows} == {f"user_{number}" for number in range(1, 101)}
    assert {row.event_type for row in rows} == {"view", "like", "purchase", "dismiss"}
    until_us = int(source.settings.until.timestamp() * 1_000_000)
    by_user: dict[str, list[Interaction]] = defaultdict(list)
    for row in rows:
        by_user[row.user_id].append(row)
    for events in by_user.values():
        assert 60 <= sum(row.event_type != "dismiss" for row in events) <= 100
        assert len({row.item_id for row in events}) == len(events), "no item twice"
        times = [row.created_us for row in events]
        assert times == sorted(times)
        assert times[-1] < until_us


def test_until_moves_every_event(rows: list[Interaction]) -> None:
    later = SyntheticSource(SyntheticSettings(until=datetime(2026, 1, 11, tzinfo=UTC))).rows()
    ten_days = 10 * 86_400 * 1_000_000
    assert [row.created_us - ten_days for row in later] == [row.created_us for row in rows]


def test_items_have_numbers_titles_and_genres(source: SyntheticSource, rows: list[Interaction]) -> None:
    items = list(source.items().rows)
    assert [item.item_id for item in items] == [str(number) for number in range(1, 301)]
    assert len({item.title for item in items}) == 300
    assert all(item.genres and set(item.genres) <= set(GENRES) for item in items)
    assert {row.item_id for row in rows} <= {item.item_id for item in items}
    assert all(is_identifier(item.item_id) for item in items)


@pytest.mark.parametrize("items", [50, 50_000])
def test_titles_stay_unique_in_small_and_large_catalogues(items: int) -> None:
    source = SyntheticSource(SyntheticSettings(users=1, items=items))
    assert len({item.title for item in source.items().rows}) == items


def test_there_are_titles_for_every_series() -> None:
    titles = [title for genre in GENRES for title in series_titles(genre, np.random.default_rng(0))]
    assert len(set(titles)) == len(titles) == MOST_SERIES_A_GENRE * len(GENRES)


@pytest.mark.parametrize(("users", "items"), [(0, 300), (100, 49), (100, 50_001)])
def test_sizes_out_of_range_are_refused(users: int, items: int) -> None:
    with pytest.raises(ValueError, match="items are needed"):
        SyntheticSource(SyntheticSettings(users=users, items=items))


def test_popularity_falls_steeply(rows: list[Interaction]) -> None:
    counts = np.sort(np.bincount([item for history in _histories(rows).values() for item in history]))[::-1]
    assert counts[:30].sum() > 4 * counts[-150:].sum() * 30 / 150


def test_the_order_of_events_tells_far_more_than_popularity(rows: list[Interaction]) -> None:
    """What followed an item in others' histories ranks each user's last item, leave-one-out; the model learns more."""
    histories = list(_histories(rows).values())
    popularity = np.zeros(301)
    followers = np.zeros((301, 301))
    for history in histories:
        np.add.at(popularity, history[:-1], 1)
        np.add.at(followers, (history[:-2], history[1:-1]), 1)
    by_order = [followers[history[-2]] + popularity * 1e-4 for history in histories]
    assert _ndcg(histories, by_order) > 2 * _ndcg(histories, [popularity] * len(histories))


def test_the_order_cannot_all_be_foreseen(rows: list[Interaction]) -> None:
    """A last item that everybody could tell would be a test of memory."""
    histories = list(_histories(rows).values())
    followers = np.zeros((301, 301))
    for history in histories:
        np.add.at(followers, (history[:-2], history[1:-1]), 1)
    assert _ndcg(histories, [followers[history[-2]] for history in histories]) < 0.5


def _ndcg(histories: list[list[int]], scores: list[NDArray[np.float64]]) -> float:
    """NDCG@10 of each history's last item among all that it does not hold before."""
    gains = []
    for history, row in zip(histories, scores, strict=True):
        unseen = row.copy()
        unseen[[0, *history[:-1]]] = -1
        rank = int((unseen > unseen[history[-1]]).sum())
        gains.append(1 / np.log2(rank + 2) if rank < 10 else 0.0)
    return float(np.mean(gains))
