"""An answer as a person reads it: the ranked items with what can be said of each, and where the time went."""

from collections.abc import Callable, Mapping, Sequence

import streamlit as st

from recstream.messages.activity import EventType
from recstream.messages.inference import InferenceResult, ScoredItem, Source, Status
from ui import charts, resources
from ui.api_client import MAX_ITEMS, ApiError, Item
from ui.formatting import count, milliseconds, plain

OnReaction = Callable[[str, EventType], None]

_RANK_WIDTH, _SCORE_WIDTH, _BUTTONS_WIDTH = 24, 56, 176

_REASONS = {
    "no_trained_model": "no model has been trained yet",
    "empty_history": "the history is empty",
    "unknown_items": "the model knows none of the history's items",
}
_ENDS = {
    Status.FAILED: "This request failed.",
    Status.EXPIRED: "This request expired before a worker came to it. Ask again.",
    Status.CANCELLED: "This request was cancelled.",
}


@st.cache_data(ttl=300, max_entries=500, show_spinner=False)
def described(item_ids: tuple[str, ...]) -> dict[str, Item]:
    """Return what the catalogue says of at most `MAX_ITEMS` items, by id. Raises ApiError."""
    return {item.item_id: item for item in resources.api().items(item_ids[:MAX_ITEMS])}


def descriptions(item_ids: Sequence[str]) -> dict[str, Item]:
    """Return what the catalogue says of the items; nothing where it cannot be asked."""
    try:
        return described(tuple(dict.fromkeys(item_ids)))
    except ApiError:
        return {}


def show_answer(result: InferenceResult, reactions: Mapping[str, EventType], on_reaction: OnReaction) -> None:
    """Show the ranked items; `reactions` are the latest ones by item."""
    if result.status is not Status.COMPLETED:
        detail = f" {plain(result.error.detail)}" if result.error is not None else ""
        st.error(_ENDS.get(result.status, "This request did not complete.") + detail)
        return
    _show_origin(result)
    if not result.items:
        st.info("Nothing is left to recommend: every item was seen or dismissed.")
        return
    items = descriptions([item.item_id for item in result.items])
    with st.container(border=True, gap=None, key="answer"):
        with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key="rank-head"):
            st.markdown(":gray[:small[#]]", width=_RANK_WIDTH)
            st.markdown(":gray[:small[Item]]", width="stretch")
            st.markdown(":gray[:small[Score]]", width=_SCORE_WIDTH)
            st.space(_BUTTONS_WIDTH)
        for rank, item in enumerate(result.items, start=1):
            _show_row(rank, item, items.get(item.item_id), reactions.get(item.item_id), on_reaction)


def show_charts(result: InferenceResult) -> None:
    """Show how the scores are distributed and where the time went."""
    if result.items:
        items = descriptions([item.item_id for item in result.items])
        titles = [items[i.item_id].title if i.item_id in items else i.item_id for i in result.items]
        st.markdown("**Score distribution**")
        scores = [item.score for item in result.items]
        st.altair_chart(
            charts.scores_by_rank(titles, scores),
            alt=f"Bars of {count(len(scores), 'score')} by rank, from {scores[0]:.3f} down to {scores[-1]:.3f}.",
        )
    timings = result.timings_ms
    if timings is not None:
        st.markdown(f"**Where {milliseconds(timings.total)} went**")
        st.altair_chart(
            charts.stages(timings),
            alt=f"Queued {timings.queued:.1f} ms, waiting for the batch {timings.batch_wait:.1f} ms, "
            f"inference {timings.inference:.1f} ms, {timings.total:.1f} ms in all.",
        )


def _show_origin(result: InferenceResult) -> None:
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        if result.source is Source.POPULARITY:
            st.badge("Popularity fallback", icon=":material/trending_up:", color="orange")
        else:
            st.badge("SASRec", icon=":material/neurology:", color="blue")
        st.markdown(f"Model `{result.model_version}`", width="content")
    history = f"{count(result.history_length, 'known item')} of history used"
    unknown = f", {count(result.unknown_items, 'unknown item')} left out" if result.unknown_items else ""
    if result.source is Source.POPULARITY:
        reason = _REASONS.get(result.reason or "", result.reason or "no reason was given")
        st.info(f"These are the most popular items, because {plain(reason)}{unknown}.", icon=":material/info:")
    else:
        st.caption(f"{history}{unknown}. Scores compare within one answer.")


def _show_row(
    rank: int, scored: ScoredItem, item: Item | None, reaction: EventType | None, on_reaction: OnReaction
) -> None:
    item_id = scored.item_id
    name = item.title if item is not None else item_id
    about = ", ".join(item.genres) if item is not None else "not in the catalogue"
    with st.container(horizontal=True, vertical_alignment="center", gap="xsmall", key=f"rank-{rank}"):
        st.markdown(f":gray[{rank}]", width=_RANK_WIDTH)
        st.markdown(f"**{plain(name)}**  \n:gray[:small[{plain(about)} · id {plain(item_id)}]]", width="stretch")
        st.markdown(f"{scored.score:.3f}", width=_SCORE_WIDTH)
        with st.container(horizontal=True, gap="small", width=_BUTTONS_WIDTH, wrap=False):
            for kind, label, icon in (
                (EventType.LIKE, "Like", ":material/thumb_up:"),
                (EventType.DISMISS, "Not for me", ":material/thumb_down:"),
            ):
                st.button(
                    label,
                    key=f"{kind}-{rank}-{item_id}",
                    icon=icon,
                    type="tertiary",
                    disabled=reaction is kind,
                    on_click=on_reaction,
                    args=(item_id, kind),
                    width="content",
                )
