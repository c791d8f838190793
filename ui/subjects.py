"""Whom recommendations are for: a user of the API, or a history typed by hand. The sidebar of Recommend."""

from dataclasses import dataclass
from typing import Any

import streamlit as st

from recstream.messages.activity import EventType
from ui import resources
from ui.api_client import ApiError, StoredInteraction
from ui.formatting import count, plain
from ui.item_ids import parse_item_ids
from ui.paging import page_buttons

SELECT_USER = "Select user"
MANUAL_INPUT = "Manual input"
USER = "user"
"""Session state: the id of the user chosen."""

_USERS_A_PAGE = 8
_HISTORY_READ = 200
"""Latest interactions read; what the API uses by default."""
_TITLES_FOUND = 6
_TYPED = "manual-ids"
_EXAMPLE = "10, 20, 30"


@dataclass(frozen=True, slots=True)
class Subject:
    """Whom to ask for. `members` are those of the request's body; `problem` says why there is nothing to ask."""

    user_id: str | None
    members: dict[str, Any]
    stored: list[StoredInteraction]
    used: int
    typed: list[str]
    problem: str | None


def choose_subject() -> Subject:
    """Draw the choice and return what was chosen."""
    mode = st.radio("For whom", [SELECT_USER, MANUAL_INPUT], key="mode", horizontal=True)
    return _selected_user() if mode == SELECT_USER else _typed_history()


def _selected_user() -> Subject:
    try:
        user_id = _pick_user()
    except ApiError as error:
        return _nobody(f"Users cannot be listed: {error}")
    if user_id is None:
        return _nobody("Choose a user in the sidebar.")
    try:
        stored = resources.api().interactions(user_id, _HISTORY_READ)
    except ApiError as error:
        return _nobody(f"The user's history cannot be read: {error}")
    positive = sum(interaction.event_type != EventType.DISMISS for interaction in stored)
    used = positive
    if positive > 1:
        used = st.slider(
            "Latest interactions to use",
            min_value=1,
            max_value=positive,
            value=positive,
            key=f"history-of-{user_id}",
            help="A shorter history shows what matters most: the latest interactions count.",
        )
    # "All" stays open-ended, so that what happens next counts beside, not instead of, the oldest.
    limit = {"history_limit": used} if used < positive else {}
    return Subject(user_id, {"user_id": user_id, **limit}, stored, used, [], None)


def _nobody(problem: str) -> Subject:
    return Subject(None, {}, [], 0, [], problem)


def _pick_user() -> str | None:
    prefix = st.text_input(
        "Find a user", key="user-prefix", placeholder="Id begins with …", type="search", live=True, max_chars=64
    ).strip()
    pages = st.session_state.setdefault("user-pages", {"prefix": prefix, "cursors": [None]})
    if pages["prefix"] != prefix:
        pages.update(prefix=prefix, cursors=[None])
    cursors: list[str | None] = pages["cursors"]
    page = resources.api().users(prefix, cursors[-1], _USERS_A_PAGE)
    ids = [user.user_id for user in page.users]
    chosen: str | None = st.session_state.get(USER)
    if chosen is None and ids:
        chosen = st.session_state[USER] = ids[0]
    if not ids:
        st.info(f"No user id begins with “{plain(prefix)}”." if prefix else "There are no users yet.")
        return chosen
    key = f"users-{prefix}-{cursors[-1]}"

    def choose() -> None:
        st.session_state[USER] = st.session_state[key]

    st.radio(
        "Users",
        ids,
        index=ids.index(chosen) if chosen in ids else None,
        key=key,
        format_func=plain,
        on_change=choose,
    )

    with st.container(horizontal=True):
        page_buttons(cursors, page.next_cursor, back="Previous", on="Next")
    if chosen not in ids:
        st.caption(f"Chosen: {plain(str(chosen))}")
    return chosen


def _typed_history() -> Subject:
    st.session_state.setdefault(_TYPED, _EXAMPLE)
    # Written each time, because a widget's state goes when it was not drawn for a while.
    st.session_state[_TYPED] = st.session_state[_TYPED]
    text = st.text_area(
        "Item ids, oldest first", key=_TYPED, placeholder=_EXAMPLE, help="Separated by commas, spaces or lines."
    )
    typed = parse_item_ids(text)
    if typed.problem is None:
        st.caption(f"{count(len(typed.item_ids), 'item')} in this history.")
    else:
        st.error(plain(typed.problem))
    _find_by_title()
    return Subject(None, {"history": typed.item_ids}, [], len(typed.item_ids), typed.item_ids, typed.problem)


def _find_by_title() -> None:
    part = st.text_input(
        "Add an item by its title", key="title-part", placeholder="Part of a title", type="search", live=True
    ).strip()
    if not part:
        return
    try:
        found = resources.api().items_titled(part[:500], _TITLES_FOUND)
    except ApiError as error:
        st.warning(f"Items cannot be searched: {plain(str(error))}")
        return
    if not found:
        st.info(f"No title holds “{plain(part[:60])}”.")
    for item in found:
        st.button(
            f"{plain(item.title)} :gray[({plain(item.item_id)})]",
            key=f"add-{item.item_id}",
            icon=":material/add:",
            help=f"Add {plain(item.title)} to the history",
            on_click=_add,
            args=(item.item_id,),
            width="stretch",
        )


def _add(item_id: str) -> None:
    text = st.session_state[_TYPED].strip().rstrip(",;")
    st.session_state[_TYPED] = f"{text}, {item_id}" if text else item_id
