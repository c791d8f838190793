"""A synthetic audience whose next step can be learnt, but not read off the items' popularity.

The catalogue is a set of series of one to six parts. A series has one or two genres, a popularity that falls by a
power law, and three related series. A user likes some genres more than others, and that taste drifts from visit to
visit. At each step a user goes on with one of the series begun of late, or crosses over to a related one, or picks a
series by taste and popularity, or, rarely, anything. So the order of events matters (sequels, crossings), the last item
alone does not tell enough (series left off, taste), the recent past matters more than the distant one (drift), and some
of it cannot be foreseen.

The same `SyntheticSettings` give the same rows on every machine: only uniform random numbers of PCG64 are drawn, and
each user has a generator of their own, so user_1 stays the same however many users there are.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime

import numpy as np
from numpy.typing import NDArray

from seeder.records import Catalogue, Interaction, Interactions, Item
from seeder.sources import Feed
from seeder.titles import MOST_SERIES_A_GENRE, WORDS, part_title, series_titles

GENRES = tuple(WORDS)
DEFAULT_UNTIL = datetime(2026, 1, 1, tzinfo=UTC)
"""Fixed rather than now: the event ids come from the rows' content, so a second run finds every row there already."""

FEWEST_ITEMS = 50
MOST_ITEMS = 50_000

_PART_COUNTS = (1, 2, 3, 4, 5, 6)
_PART_WEIGHTS = np.array([0.15, 0.2, 0.25, 0.2, 0.12, 0.08])
_POPULARITY_EXPONENT = 0.9
_RELATED_WEIGHTS = np.array([0.6, 0.25, 0.15])
_RECENT_WEIGHTS = np.array([0.55, 0.3, 0.15])
"""Of going on with the last series, the one before, and the one before that."""
_EVENT_TYPES = ("view", "like", "purchase")
_EVENT_WEIGHTS = np.array([0.72, 0.18, 0.10])

# What a step does; the rest goes by taste.
_GO_ON = 0.45
_CROSS_OVER = 0.18
_ANYTHING = 0.05
_DISMISS = 0.03

_VISIT_ENDS = 0.2
_DAY = 86_400
_ROWS_A_BLOCK = 1_000


@dataclass(frozen=True, slots=True)
class SyntheticSettings:
    """How much of what. `until` is later than every event."""

    seed: int = 42
    users: int = 100
    items: int = 300
    until: datetime = DEFAULT_UNTIL


@dataclass(slots=True)
class _Series:
    genres: tuple[int, ...]
    title: str
    items: list[int] = field(default_factory=list)
    """Item numbers of its parts, in order."""


class SyntheticSource:
    """Items `1`..`N` and users `user_1`..`user_M` with 60 to 100 interactions each, about one in thirty a dismissal."""

    def __init__(self, settings: SyntheticSettings) -> None:
        if settings.users < 1 or not FEWEST_ITEMS <= settings.items <= MOST_ITEMS:
            raise ValueError(f"at least one user and {FEWEST_ITEMS} to {MOST_ITEMS:,} items are needed")
        self.settings = settings
        self.catalogue = Catalogue("synthetic", f"seed {settings.seed}, {settings.items} items")
        self._users_done = 0
        self._series = _make_series(settings)
        count = len(self._series)
        rng = np.random.default_rng([settings.seed, 1])
        ranks = np.argsort(rng.random(count), kind="stable") + 1
        self._popularity: NDArray[np.float64] = np.asarray(ranks**-_POPULARITY_EXPONENT, dtype=np.float64)
        self._related = _relate(self._series, self._popularity, rng)
        self._genre_matrix = np.zeros((count, len(GENRES)))
        for number, series in enumerate(self._series):
            self._genre_matrix[number, list(series.genres)] = 1 / len(series.genres)

    def items(self) -> Feed[Item]:
        """Return every item, by number."""
        return Feed("synthetic items", self._items(), self.settings.items, lambda: self.settings.items)

    def interactions(self) -> Feed[Interactions]:
        """Return every user's events, oldest first, user after user. No user meets an item twice."""
        blocks = Interactions.batches(self.rows(), _ROWS_A_BLOCK)
        return Feed("synthetic interactions", blocks, self.settings.users, lambda: self._users_done)

    def _items(self) -> Iterator[Item]:
        rows: dict[int, Item] = {}
        for series in self._series:
            genres = tuple(sorted(GENRES[genre] for genre in series.genres))
            for part, number in enumerate(series.items, start=1):
                rows[number] = Item(str(number), part_title(series.title, part), genres)
        for number in range(1, self.settings.items + 1):
            yield rows[number]

    def rows(self) -> Iterator[Interaction]:
        """Yield the events one by one."""
        for user in range(1, self.settings.users + 1):
            yield from self._events_of(user)
            self._users_done = user

    def _events_of(self, user: int) -> Iterator[Interaction]:
        rng = np.random.default_rng([self.settings.seed, 2, user])
        steps = min(int(rng.integers(60, 101)), self.settings.items // 3)
        walk = _Walk(self, rng)
        events: list[tuple[float, int, str]] = []  # seconds since the first one, item, type
        clock = 0.0
        for _ in range(steps):
            item = walk.step()
            events.append((clock, item, _EVENT_TYPES[_draw(_EVENT_WEIGHTS, rng)]))
            if rng.random() < _DISMISS and (disliked := walk.dislike()) is not None:
                events.append((clock + 30, disliked, "dismiss"))
            clock += 120 + 2_400 * float(rng.random())
            if rng.random() < _VISIT_ENDS:
                clock += _DAY * (0.5 + 6 * float(rng.random()))
                walk.drift()
        end = self.settings.until.timestamp() - 60 - 10 * _DAY * float(rng.random())
        start = end - events[-1][0]
        for seconds, item, event_type in events:
            # Whole seconds, as most logs keep them.
            yield Interaction(f"user_{user}", str(item), event_type, 1.0, int(start + seconds) * 1_000_000)


class _Walk:
    """One user's way through the catalogue."""

    def __init__(self, source: SyntheticSource, rng: np.random.Generator) -> None:
        self._source = source
        self._rng = rng
        # Gumbel noise: a few genres well liked, most hardly.
        self._taste = -np.log(-np.log(rng.random(len(GENRES)))) * 1.3
        self._unseen = [list(series.items) for series in source._series]
        self._open = np.ones(len(source._series))
        self._recent: list[int] = []  # series, the latest first

    def step(self) -> int:
        """Return the next item."""
        choice = self._rng.random()
        if choice < _GO_ON:
            begun = [series for series in self._recent if self._unseen[series]]
            if begun:
                return self._take(begun[_draw(_RECENT_WEIGHTS[: len(begun)], self._rng)])
        elif choice < _GO_ON + _CROSS_OVER and self._recent:
            related = self._source._related[self._recent[0]][_draw(_RELATED_WEIGHTS, self._rng)]
            if self._unseen[related]:
                return self._take(related)
        if choice >= 1 - _ANYTHING:
            return self._take(_draw(self._open, self._rng))
        liking = np.exp(1.5 * (self._source._genre_matrix @ self._taste))
        return self._take(_draw(liking * self._source._popularity * self._open, self._rng))

    def dislike(self) -> int | None:
        """Return an unseen item of the genre liked least and take it out of the user's way."""
        worst = int(np.argmin(self._taste))
        candidates = np.flatnonzero(self._source._genre_matrix[:, worst] * self._open)
        if len(candidates) == 0:
            return None
        return self._remove(int(candidates[int(self._rng.random() * len(candidates))]))

    def drift(self) -> None:
        """Let the taste change as it does between two visits: a little always, much now and then."""
        self._taste = self._taste * 0.95 + (self._rng.random(len(GENRES)) - 0.5) * 0.8
        if self._rng.random() < 0.15:
            self._taste[int(self._rng.random() * len(GENRES))] += 2.5

    def _take(self, series: int) -> int:
        self._recent = [series, *(other for other in self._recent if other != series)][: len(_RECENT_WEIGHTS)]
        return self._remove(series)

    def _remove(self, series: int) -> int:
        item = self._unseen[series].pop(0)
        if not self._unseen[series]:
            self._open[series] = 0
        return item


def _draw(weights: NDArray[np.float64], rng: np.random.Generator) -> int:
    bounds = np.cumsum(weights)
    return min(int(np.searchsorted(bounds, rng.random() * bounds[-1], side="right")), len(weights) - 1)


def _make_series(settings: SyntheticSettings) -> list[_Series]:
    rng = np.random.default_rng([settings.seed, 0])
    numbers = np.argsort(rng.random(settings.items), kind="stable") + 1  # so that an id says nothing about its series
    titles = [series_titles(genre, rng) for genre in GENRES]
    series: list[_Series] = []
    given = 0
    while given < settings.items:
        # Genres in turn, so that each has its share, and none more titles than there are.
        genre = len(series) % len(GENRES)
        assert len(series) < MOST_SERIES_A_GENRE * len(GENRES)
        genres: tuple[int, ...] = (genre,)
        if rng.random() < 0.4:
            genres = (genre, (genre + 1 + int(rng.random() * (len(GENRES) - 1))) % len(GENRES))
        parts = min(_PART_COUNTS[_draw(_PART_WEIGHTS, rng)], settings.items - given)
        series.append(_Series(genres, next(titles[genre]), [int(n) for n in numbers[given : given + parts]]))
        given += parts
    return series


def _relate(
    series: list[_Series], popularity: NDArray[np.float64], rng: np.random.Generator
) -> list[tuple[int, int, int]]:
    """Give each series two related ones that share its first genre, and one that need not."""
    by_genre: dict[int, list[int]] = {}
    for number, one in enumerate(series):
        for genre in one.genres:
            by_genre.setdefault(genre, []).append(number)
    related = []
    for number, one in enumerate(series):
        near = np.array([other for other in by_genre[one.genres[0]] if other != number] or [number])
        picks = [int(near[_draw(popularity[near] ** 0.5, rng)]) for _ in range(2)]
        related.append((picks[0], picks[1], int(rng.random() * len(series))))
    return related
