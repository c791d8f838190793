"""Recommend: choose for whom, ask, see the answer arrive, say what is liked."""

from datetime import datetime

import pandas as pd
import streamlit as st

from recstream.messages.activity import EventType
from recstream.ops.clock import from_ms, now_ms
from ui import resources
from ui.answers import descriptions, show_answer, show_charts
from ui.api_client import ApiError
from ui.formatting import count, plain
from ui.reactions import Reaction, as_request_members, not_stored_yet
from ui.requests_asked import ASKED, Asked, ask, restore_from_address, show_progress
from ui.subjects import USER, Subject, choose_subject

_REACTIONS = "reactions"
_TROUBLE = "trouble"
_MOST = 100
_TABLE_HEIGHT = 386


def page() -> None:
    """Draw the page."""
    first = ASKED not in st.session_state
    restore_from_address()
    asked: Asked | None = st.session_state.get(ASKED)
    if first and asked is not None and asked.user_id is not None:
        st.session_state[USER] = asked.user_id
    with st.sidebar:
        subject = choose_subject()
        k = st.slider("How many recommendations", min_value=1, max_value=_MOST, value=10, key="k")
    waiting = not_stored_yet(_reactions(subject.user_id), subject.stored)
    left, right = st.columns([5, 3], gap="large")
    with left:
        _show_question(subject, k, waiting)
        asked = st.session_state.get(ASKED)
        if asked is not None:
            _show_asked(asked, subject)
        elif subject.problem is None:
            st.caption("The answer appears here, with the score of each item and where the time went.")
    with right:
        if asked is not None and asked.answer is not None:
            show_charts(asked.answer.result)
        _show_history(subject, waiting)


def _show_question(subject: Subject, k: int, waiting: list[Reaction]) -> None:
    with st.container(horizontal=True, vertical_alignment="center"):
        whom = f"For {plain(subject.user_id)}" if subject.user_id is not None else "For a history of your own"
        st.subheader(whom if subject.problem is None else "Recommendations", anchor=False, width="stretch")
        pressed = st.button(
            "Get Recommendations", type="primary", icon=":material/auto_awesome:", disabled=subject.problem is not None
        )
    if subject.problem is not None:
        st.info(plain(subject.problem))
    if pressed:
        try:
            ask({**subject.members, **as_request_members(waiting), "k": k})
            st.session_state.pop(_TROUBLE, None)
        except ApiError as error:
            st.session_state.pop(ASKED, None)
            st.session_state[_TROUBLE] = f"The request was not accepted: {error}"
    trouble = st.session_state.get(_TROUBLE)
    if trouble is not None:
        st.error(plain(trouble), icon=":material/error:")


def _show_asked(asked: Asked, subject: Subject) -> None:
    if asked.user_id != subject.user_id:
        whom = plain(asked.user_id) if asked.user_id is not None else "a history typed by hand"
        st.caption(f"Below is the last answer, for {whom}.")
    show_progress(asked)
    if asked.answer is None:
        return
    reactions = _reactions(asked.user_id)
    said = {reaction.item_id: reaction.event_type for reaction in reactions}

    def react(item_id: str, kind: EventType) -> None:
        _react(asked.user_id, item_id, kind)

    show_answer(asked.answer.result, said, react)
    if any(item.item_id in said for item in asked.answer.result.items):
        st.caption("What you said counts from the next request on.")


def _reactions(user_id: str | None) -> list[Reaction]:
    """Return this visit's reactions for a user; for a typed history under the name None."""
    everyones: dict[str | None, list[Reaction]] = st.session_state.setdefault(_REACTIONS, {})
    return everyones.setdefault(user_id, [])


def _react(user_id: str | None, item_id: str, kind: EventType) -> None:
    reaction = Reaction(item_id, kind, from_ms(now_ms()))
    if user_id is not None:  # a typed history is nobody's: what is said of it stays in this visit
        try:
            resources.api().record(user_id, item_id, kind, reaction.occurred_at)
        except ApiError as error:
            st.session_state[_TROUBLE] = f"This was not recorded: {error}"
            return
    st.session_state.pop(_TROUBLE, None)
    _reactions(user_id).append(reaction)


def _show_history(subject: Subject, waiting: list[Reaction]) -> None:
    if subject.problem is not None:
        return
    st.markdown("**History**")
    items = descriptions([*subject.typed, *(reaction.item_id for reaction in waiting)])
    rows: list[tuple[bool, str, str, str, str, datetime | None]] = []
    for reaction in reversed(waiting):
        item = items.get(reaction.item_id)
        title = item.title if item is not None else reaction.item_id
        genres = ", ".join(item.genres) if item is not None else ""
        rows.append((True, title, str(reaction.event_type), genres, reaction.item_id, reaction.occurred_at))
    left = subject.used
    for stored in subject.stored:
        counts = stored.event_type != EventType.DISMISS and left > 0
        left -= counts
        rows.append(
            (
                counts or stored.event_type == EventType.DISMISS,
                stored.title or stored.item_id,
                stored.event_type,
                ", ".join(stored.genres),
                stored.item_id,
                stored.created_at,
            )
        )
    for item_id in reversed(subject.typed):
        item = items.get(item_id)
        title = item.title if item is not None else "not in the catalogue"
        rows.append((True, title, "typed", ", ".join(item.genres) if item is not None else "", item_id, None))
    if not rows:
        st.info("Nothing is known of this user yet, so popular items are recommended.")
        return
    table = pd.DataFrame(rows, columns=["Used", "Title", "What", "Genres", "Id", "When"])
    if subject.user_id is None:
        table = table.drop(columns=["What", "When"])
    st.dataframe(
        table,
        hide_index=True,
        height=_TABLE_HEIGHT,
        column_order=["Used", "Title", "When", "What", "Genres", "Id"],
        column_config={
            "Used": st.column_config.CheckboxColumn(width=48, help="Whether it counts in the next request"),
            "Title": st.column_config.TextColumn(width=150),
            "When": st.column_config.DatetimeColumn(format="D MMM YYYY, HH:mm", timezone=st.context.timezone),
        },
        alt="The history, latest first.",
    )
    st.caption(f"{count(len(rows), 'interaction')}, latest first.")
