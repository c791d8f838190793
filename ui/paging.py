"""Leafing through what the API gives a page at a time."""

import streamlit as st


def page_buttons(cursors: list[str | None], following: str | None, *, back: str, on: str) -> None:
    """Draw the two buttons. `cursors` are those of the pages up to this one, None the first's; a press changes them.

    `following` is the next page's cursor, None where this is the last one.
    """

    def turn_back() -> None:
        cursors.pop()

    st.button(back, icon=":material/chevron_left:", disabled=len(cursors) == 1, on_click=turn_back)
    st.button(
        on,
        icon=":material/chevron_right:",
        icon_position="right",
        disabled=following is None,
        on_click=cursors.append,
        args=(following,),
    )
