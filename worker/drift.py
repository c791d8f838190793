"""How far the latest traffic is from what the served model was made on, as gauges."""

from collections import deque
from collections.abc import Iterable

from recstream.messages.inference import Source
from recstream.model.drift import Histogram, population_stability_index
from recstream.ops import metrics
from worker.inference import Answer, ModelError, ServedModel

_LEAST_SHARE = 10
"""Before a window is filled to one in so many, its index would say more about chance than about traffic."""


class _Window:
    """The latest values of one feature, counted in the reference's bins."""

    def __init__(self, feature: str, reference: Histogram, size: int) -> None:
        self._feature = feature
        self._reference = reference
        self._bins: deque[int] = deque()
        self._counts = [0] * len(reference.counts)
        self._size = size

    def add(self, values: Iterable[float]) -> None:
        for value in values:
            if len(self._bins) == self._size:
                self._counts[self._bins.popleft()] -= 1
            found = self._reference.bin_of(value)
            self._bins.append(found)
            self._counts[found] += 1

    def export(self) -> None:
        metrics.DRIFT_WINDOW.labels(self._feature).set(len(self._bins))
        if len(self._bins) * _LEAST_SHARE >= self._size:
            index = population_stability_index(self._reference.counts, self._counts)
            metrics.DRIFT_PSI.labels(self._feature).set(index)


class DriftWatch:
    """Compares this worker's last `window` answers by a model with that model's reference.

    Another model starts anew: its scores are not comparable. One without a reference (a bundle of popularity, or of an
    earlier release) exports nothing.
    """

    def __init__(self, window: int) -> None:
        self._size = window
        self._version: str | None = None
        self._lengths: _Window | None = None
        self._scores: _Window | None = None

    def observe(self, model: ServedModel, answers: Iterable[Answer | ModelError]) -> None:
        """Count one batch and set the gauges."""
        if model.version != self._version:
            self._start(model)
        if self._lengths is None or self._scores is None:
            return
        # A fallback is counted as such: without a known item there is no length, and popularity's scores are others.
        rankings = [a.ranking for a in answers if isinstance(a, Answer) and a.source is Source.SASREC]
        self._lengths.add(ranking.history_length for ranking in rankings)
        self._scores.add(ranking.items[0][1] for ranking in rankings if ranking.items)
        self._lengths.export()
        self._scores.export()

    def _start(self, model: ServedModel) -> None:
        self._version = model.version
        metrics.DRIFT_PSI.clear()
        metrics.DRIFT_WINDOW.clear()
        reference = model.reference
        self._lengths = _Window("history_length", reference.history_length, self._size) if reference else None
        self._scores = _Window("score", reference.score, self._size) if reference else None
