"""Whether a new model may go live: compared on what came later than anything that is compared has learnt from.

Candidate, live model and popularity answer the same questions as a worker would: what comes after this history? Each
answers from its own catalogue; an item it does not know it cannot name, so all compete over the union of the
catalogues. The comparison is paired by user, and its confidence interval a bootstrap over users (Efron & Tibshirani
1993, "An Introduction to the Bootstrap", chapter 13).
"""

import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Final, Literal

import msgspec
import numpy as np
import numpy.typing as npt

from recstream.model.bundle import Bundle
from recstream.model.manifest import BundleRejected, DataWindow
from recstream.model.popularity import Popularity
from recstream.model.ranking import Query, SasrecRanker
from recstream.ops.clock import from_us, to_us
from trainer.interactions import Interactions
from trainer.settings import TrainerSettings
from trainer.split import HeldOut, last_within

Verdict = Literal["better", "not_worse", "worse", "inconclusive"]

K: Final = 10
_MOST_USERS: Final = 5_000
_RESAMPLES: Final = 2_000
_CONFIDENCE: Final = 0.95
_BATCH: Final = 128

Answer = Callable[[Sequence[Sequence[str]]], list[list[str]]]
"""Takes histories, oldest first; returns the K best items for each, best first, none of them in the history."""


class Against(msgspec.Struct, frozen=True, kw_only=True):
    """The candidate beside one opponent: mean NDCG@10, and the mean difference with its 95% confidence interval."""

    opponent: str
    verdict: Verdict
    candidate_ndcg: float
    opponent_ndcg: float
    difference: float
    low: float
    high: float


class HoldOut(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked: each user's last item later than `after`. `unknown` and `repeats` count users left out."""

    after: str | None
    users: int
    unknown: int
    """Their item is in nobody's catalogue."""
    repeats: int
    """Their item is one they had seen before."""


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What `ml_models.decision` keeps."""

    promoted: bool
    verdict: Verdict
    reason: str
    forced: bool
    hold_out: HoldOut
    against: list[Against]
    windows: dict[str, DataWindow]
    """The data that candidate and live model have learnt from."""


def decide(
    candidate: Bundle, live: Bundle | None, data: Interactions, after: int | None, settings: TrainerSettings
) -> Decision:
    """Compare `candidate` with `live` (a SASRec model, if any) and with popularity, on `data` later than `after`.

    `after` is the moment, in microseconds, until which the candidate has learnt; where the live model has learnt from
    later interactions, from there on. None asks nobody. Raises BundleRejected where the candidate cannot be loaded.
    """
    windows = {"candidate": candidate.manifest.data}
    if live is not None:
        windows[live.version] = live.manifest.data
        if after is not None and live.manifest.data.last_at is not None:
            after = max(after, to_us(live.manifest.data.last_at))
    catalogue = set(candidate.vocabulary().item_ids) | (set(live.vocabulary().item_ids) if live is not None else set())
    histories, targets, hold_out = _questions(data, after, catalogue, settings.seed)
    against = []
    if targets:
        own = _gains(_served(candidate), histories, targets)
        opponents: dict[str, Answer] = {}
        if live is not None:
            with suppress(BundleRejected):  # no worker can load it either
                opponents[live.version] = _served(live)
        opponents["popularity"] = _popular(candidate.popularity())
        for name, answer in opponents.items():
            against.append(_compare(name, own, _gains(answer, histories, targets), settings))
    verdict = _overall(against)
    promoted, reason = _outcome(verdict, against, hold_out, settings)
    return Decision(
        promoted=promoted or settings.force,
        verdict=verdict,
        reason=f"promoted by force, although: {reason}" if settings.force and not promoted else reason,
        forced=settings.force and not promoted,
        hold_out=hold_out,
        against=against,
        windows=windows,
    )


def _questions(
    data: Interactions, after: int | None, catalogue: set[str], seed: int
) -> tuple[list[list[str]], list[str], HoldOut]:
    """Return histories and the item that came after each."""
    if after is None or data.times is None or data.n_users == 0:
        return [], [], HoldOut(after=None, users=0, unknown=0, repeats=0)
    held_out = _draw(last_within(data, after, None), seed)
    histories: list[list[str]] = []
    targets: list[str] = []
    unknown = repeats = 0
    for start, length, code in zip(
        held_out.inputs.starts.tolist(), held_out.inputs.lengths.tolist(), held_out.targets.tolist(), strict=True
    ):
        target = data.item_ids[code - 1]
        history = [data.item_ids[each - 1] for each in data.codes[start : start + length].tolist()]
        if target not in catalogue:
            unknown += 1
        elif target in history:
            repeats += 1
        else:
            histories.append(history)
            targets.append(target)
    moment = from_us(after).isoformat(timespec="seconds")
    return histories, targets, HoldOut(after=moment, users=len(targets), unknown=unknown, repeats=repeats)


def _draw(held_out: HeldOut, seed: int) -> HeldOut:
    if len(held_out) <= _MOST_USERS:
        return held_out
    return held_out.select(np.random.default_rng(seed).choice(len(held_out), _MOST_USERS, replace=False))


def _served(bundle: Bundle) -> Answer:
    """Answer as a worker does: the network's ranking, or popularity where it knows nothing of the history."""
    ranker, fallback = SasrecRanker.load(bundle), _popular(bundle.popularity())

    def answer(histories: Sequence[Sequence[str]]) -> list[list[str]]:
        rankings = ranker.rank([Query(history, (), exclude_seen=True, k=K) for history in histories])
        return [
            [item for item, _ in ranking.items] if ranking.history_length else fallback([history])[0]
            for history, ranking in zip(histories, rankings, strict=True)
        ]

    return answer


def _popular(popularity: Popularity) -> Answer:
    return lambda histories: [[item for item, _ in popularity.top(K, history)] for history in histories]


def _gains(answer: Answer, histories: list[list[str]], targets: list[str]) -> npt.NDArray[np.float64]:
    """Return each user's NDCG@10."""
    # Of like lengths together, because a batch is as wide as its longest.
    order = sorted(range(len(targets)), key=lambda row: len(histories[row]))
    gains = np.zeros(len(targets))
    for start in range(0, len(order), _BATCH):
        rows = order[start : start + _BATCH]
        for row, items in zip(rows, answer([histories[row] for row in rows]), strict=True):
            if targets[row] in items:
                gains[row] = 1 / math.log2(items.index(targets[row]) + 2)
    return gains


def _compare(
    opponent: str, own: npt.NDArray[np.float64], theirs: npt.NDArray[np.float64], settings: TrainerSettings
) -> Against:
    difference = own - theirs
    low, high = bootstrap_interval(difference, settings.seed)
    verdict: Verdict = "not_worse"
    if len(difference) < settings.gate_min_users:
        verdict = "inconclusive"
    elif high < 0:
        verdict = "worse"
    elif low > 0:
        verdict = "better"
    return Against(
        opponent=opponent,
        verdict=verdict,
        candidate_ndcg=float(own.mean()),
        opponent_ndcg=float(theirs.mean()),
        difference=float(difference.mean()),
        low=low,
        high=high,
    )


def bootstrap_interval(values: npt.NDArray[np.float64], seed: int) -> tuple[float, float]:
    """Return the 95% percentile interval of the mean over resamples of `values`."""
    generator = np.random.default_rng(seed)
    means = np.array([values[generator.integers(0, len(values), len(values))].mean() for _ in range(_RESAMPLES)])
    low, high = np.quantile(means, [(1 - _CONFIDENCE) / 2, (1 + _CONFIDENCE) / 2])
    return float(low), float(high)


def _overall(against: list[Against]) -> Verdict:
    verdicts = {each.verdict for each in against}
    for verdict in ("worse", "inconclusive", "not_worse"):
        if verdict in verdicts:
            return verdict
    return "better" if verdicts else "inconclusive"


def _outcome(
    verdict: Verdict, against: list[Against], hold_out: HoldOut, settings: TrainerSettings
) -> tuple[bool, str]:
    if verdict == "worse":
        worse = " and ".join(each.opponent for each in against if each.verdict == "worse")
        return False, f"worse than {worse} beyond a 95% confidence interval"
    if verdict == "inconclusive":
        promote = settings.when_inconclusive == "promote"
        return promote, (
            f"inconclusive: {hold_out.users} users to ask, {settings.gate_min_users} are needed; "
            f"TRAINER_WHEN_INCONCLUSIVE says {settings.when_inconclusive}"
        )
    return True, f"{verdict.replace('_', ' ')}, compared with {' and '.join(each.opponent for each in against)}"
