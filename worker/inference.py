"""Requests to answers with one model: SASRec where the history is known, labelled popularity where it is not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from recstream.messages.inference import InferenceRequested, Source
from recstream.model.bundle import Bundle, open_bundle
from recstream.model.drift import DriftReference
from recstream.model.popularity import Popularity
from recstream.model.ranking import Query, Ranking, SasrecRanker


class ModelError(RuntimeError):
    """The model gave something that cannot be served."""


@dataclass(frozen=True, slots=True)
class Answer:
    """The ranking for one request; `reason` says why where it is a fallback."""

    ranking: Ranking
    source: Source
    reason: str | None


@dataclass(frozen=True, slots=True)
class ServedModel:
    """One version, whole and checked; a batch is answered by exactly one."""

    bundle: Bundle
    popularity: Popularity
    ranker: SasrecRanker | None
    reference: DriftReference | None

    @property
    def version(self) -> str:
        """The bundle's version."""
        return self.bundle.version

    def answer(self, requests: Sequence[InferenceRequested]) -> list[Answer | ModelError]:
        """Rank for each request, in order. A request that the model cannot answer does not spoil its neighbours'."""
        if self.ranker is None:
            return [self._by_popularity(request, "no_trained_model", None) for request in requests]
        queries = [_query(request) for request in requests]
        try:
            rankings = self.ranker.rank(queries)
        except Exception as error:  # whatever the batch met: find out which request it was
            if len(requests) == 1:
                return [ModelError(f"{type(error).__name__} while ranking")]
            return [answer for request in requests for answer in self.answer([request])]
        return [self._checked(request, ranking) for request, ranking in zip(requests, rankings, strict=True)]

    def _checked(self, request: InferenceRequested, ranking: Ranking) -> Answer | ModelError:
        if ranking.history_length == 0:
            reason = "unknown_items" if request.history else "empty_history"
            return self._by_popularity(request, reason, ranking)
        if not all(math.isfinite(score) for _, score in ranking.items):
            return ModelError("a score is not a finite number")
        return Answer(ranking, Source.SASREC, None)

    def _by_popularity(self, request: InferenceRequested, reason: str, ranking: Ranking | None) -> Answer:
        excluded = {*request.exclude, *(request.history if request.exclude_seen else ())}
        items = self.popularity.top(request.k, excluded)
        unknown = ranking.unknown_items if ranking is not None else 0
        return Answer(Ranking(items=items, history_length=0, unknown_items=unknown), Source.POPULARITY, reason)


def load_model(checkpoints: Path, folder: str, manifest_sha256: str) -> ServedModel:
    """Open, verify and load a bundle.

    Raises:
        BundleRejected: anything about it is wrong.
    """
    bundle = open_bundle(checkpoints, folder, manifest_sha256)
    ranker = SasrecRanker.load(bundle) if bundle.manifest.kind == "sasrec" else None
    return ServedModel(bundle=bundle, popularity=bundle.popularity(), ranker=ranker, reference=bundle.drift_reference())


def _query(request: InferenceRequested) -> Query:
    return Query(history=request.history, exclude=request.exclude, exclude_seen=request.exclude_seen, k=request.k)
