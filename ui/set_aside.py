"""Dead letters: what was set aside and why, what each holds, and sending one once more."""

import pandas as pd
import streamlit as st

from ui import resources
from ui.api_client import ApiError, DeadLetter, DeadLetterDetail
from ui.formatting import count, plain
from ui.paging import page_buttons

_PAGE = 20
_ROW, _HEADER = 35, 38
_CURSORS = "letters-cursors"
_CHOSEN = "letter-chosen"
_SAID = "letter-said"
_LONGEST_SHOWN = 20_000


def show_dead_letters() -> None:
    """Show the dead letters, a page at a time."""
    cursors: list[str | None] = st.session_state.setdefault(_CURSORS, [None])
    try:
        page = resources.api().dead_letters(cursors[-1], _PAGE)
    except ApiError as error:
        if error.status == 404:
            st.info("This API has no dead letters to show.")
        else:
            st.warning(f"Dead letters cannot be listed: {plain(str(error))}", icon=":material/cloud_off:")
        return
    said = st.session_state.pop(_SAID, None)
    if said is not None:
        kind, sentence = said
        (st.success if kind == "sent" else st.error)(plain(sentence))
    letters = page.dead_letters
    if not letters and len(cursors) == 1:
        st.info(
            "Nothing was set aside. A record that cannot be understood would appear here with its reason, while its "
            "neighbours are answered.",
            icon=":material/task_alt:",
        )
        return
    _show_table(letters)

    with st.container(horizontal=True):
        page_buttons(cursors, page.next_cursor, back="Newer", on="Older")
        st.button("Look again", icon=":material/refresh:")
    if letters:
        _show_one(letters)


def _show_table(letters: list[DeadLetter]) -> None:
    rows = [
        (
            letter.set_aside_at,
            letter.topic,
            letter.reason,
            letter.detail,
            letter.service or "",
            letter.redrives,
            letter.redriven_at,
            letter.id,
        )
        for letter in letters
    ]

    def choose() -> None:
        chosen = st.session_state["letters"].selection.rows
        if chosen and chosen[0] < len(letters):
            st.session_state[_CHOSEN] = letters[chosen[0]].id

    moment = st.column_config.DatetimeColumn(format="D MMM, HH:mm:ss", timezone=st.context.timezone)
    st.dataframe(
        pd.DataFrame(
            rows, columns=["Set aside", "Topic", "Reason", "Detail", "By", "Sent before", "Sent once more", "Id"]
        ),
        hide_index=True,
        height=_HEADER + _ROW * min(len(letters), 10),
        key="letters",
        on_select=choose,
        selection_mode="single-row",
        column_config={
            "Set aside": moment,
            "Sent once more": moment,
            "Detail": st.column_config.TextColumn(width="medium"),
            "Sent before": st.column_config.NumberColumn(help="How often it was sent once more before it came here"),
        },
        placeholder="-",
        alt="Dead letters, latest first.",
    )


def _show_one(letters: list[DeadLetter]) -> None:
    ids = [letter.id for letter in letters]
    if st.session_state.get(_CHOSEN) not in ids:
        st.session_state.pop(_CHOSEN, None)
    chosen = st.selectbox("Look at a dead letter", ids, key=_CHOSEN)
    letter = next(letter for letter in letters if letter.id == chosen)
    try:
        detail = resources.api().dead_letter(letter.id)
    except ApiError as error:
        st.warning(f"It cannot be read: {plain(str(error))}")
        return
    where = f", partition {letter.partition}, offset {letter.offset}" if letter.partition is not None else ""
    st.markdown(f"From **{plain(letter.topic)}**{where}: {plain(letter.reason)}. {plain(letter.detail)}")
    _show_contents(detail)
    if letter.redriven_at is not None:
        st.caption("It was sent to its topic once more; doing so again would change nothing.")
    elif st.button("Redrive", icon=":material/replay:", type="primary", key="redrive"):
        st.dialog("Send it once more")(_confirm)(letter)


def _show_contents(detail: DeadLetterDetail) -> None:
    with st.expander("Contents", expanded=True):
        st.caption("Key")
        st.code(detail.key if detail.key is not None else "(none)", language=None)
        value = detail.value if detail.value is not None else "(none)"
        st.caption(
            "Value" if len(value) <= _LONGEST_SHOWN else f"Value, its first {count(_LONGEST_SHOWN, 'character')}"
        )
        st.code(value[:_LONGEST_SHOWN], language=None, wrap_lines=True)
        if detail.headers:
            st.caption("Headers")
            st.dataframe(
                pd.DataFrame([(header.name, header.value) for header in detail.headers], columns=["Name", "Value"]),
                hide_index=True,
                alt="The record's headers.",
            )


def _confirm(letter: DeadLetter) -> None:
    st.markdown(
        f"`{letter.id}` goes to **{plain(letter.topic)}** once more, as it is.\n\n"
        "- It helps where the reason is gone: a fault that was mended, a part that was away.\n"
        "- What cannot be understood still comes back here; it never goes round by itself.\n"
        "- A request that has ended meanwhile is not answered twice."
    )
    with st.container(horizontal=True, horizontal_alignment="right"):
        if st.button("Cancel", key="redrive-cancel"):
            st.rerun()
        if st.button("Redrive", type="primary", key="redrive-confirm"):
            try:
                sent = resources.api().redrive(letter.id)
            except ApiError as error:
                st.session_state[_SAID] = ("not sent", f"It was not sent: {error}")
            else:
                again = "had been sent before" if sent.repeated else "was sent once more"
                st.session_state[_SAID] = ("sent", f"{letter.id} {again}, to {sent.topic}.")
            st.rerun()
