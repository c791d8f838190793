"""One request from the button to its answer: accepted by the API, then seen on the topic, else looked up."""

import time
from dataclasses import dataclass
from typing import Any
from uuid import UUID

import streamlit as st

from recstream.messages.inference import InferenceResult, Status
from ui import resources
from ui.api_client import ApiError, Recommendation
from ui.formatting import milliseconds, plain

ASKED = "asked"
"""Session state: the request whose answer the page shows."""
PARAMETER = "request"
"""In the page's address, so that a reload shows the answer again."""

_AT_ONCE_SECONDS = 0.4
"""How long the script waits itself: answers mostly come within some milliseconds, and then nothing flickers."""
_LOOK_SECONDS = 0.3
_LOOK_UP_AFTER_SECONDS = 2.0
_LOOK_UP_EVERY_SECONDS = 1.0
_LONG_SECONDS = 15.0


@dataclass(slots=True)
class Answer:
    """How a request ended; `live` where it was seen on the topic, `after_ms` from the button, where known."""

    result: InferenceResult
    live: bool
    after_ms: float | None


@dataclass(slots=True)
class Asked:
    """A request; `asked_at` is monotonic, `accepted_ms` the API's time to accept it, None after a reload."""

    request_id: UUID
    user_id: str | None
    asked_at: float
    accepted_ms: float | None
    answer: Answer | None = None
    trouble: str | None = None
    looked_up_at: float = 0.0


def ask(body: dict[str, Any]) -> None:
    """Send a request and remember it for this visit. Raises ApiError."""
    began = time.monotonic()
    accepted = resources.api().recommend(body)
    asked = Asked(accepted.request_id, accepted.user_id, began, (time.monotonic() - began) * 1000)
    st.session_state[ASKED] = asked
    st.query_params[PARAMETER] = str(asked.request_id)
    seen = resources.result_feed().wait(asked.request_id, _AT_ONCE_SECONDS)
    if seen is not None:
        asked.answer = Answer(seen.result, True, (time.monotonic() - began) * 1000)


def restore_from_address() -> None:
    """After a reload, take up the request that the page's address names."""
    text = st.query_params.get(PARAMETER)
    asked: Asked | None = st.session_state.get(ASKED)
    if text is None or (asked is not None and str(asked.request_id) == text):
        return
    try:
        request_id = UUID(text)
        found = resources.api().recommendation(request_id)
    except ValueError:
        st.session_state.pop(ASKED, None)
        del st.query_params[PARAMETER]
        st.warning("The address of this page names no request; it was ignored.")
    except ApiError as error:
        st.session_state.pop(ASKED, None)
        st.warning(f"The request that this page's address names cannot be shown: {plain(str(error))}")
        if error.status is not None:
            del st.query_params[PARAMETER]
    else:
        st.session_state[ASKED] = Asked(
            request_id, found.user_id, time.monotonic(), None, _recorded(found, after_ms=None)
        )


def show_progress(asked: Asked) -> None:
    """Show how far a request is, and follow it until it is answered."""
    st.fragment(_progress, run_every=_LOOK_SECONDS if asked.answer is None else None)(asked)


def _progress(asked: Asked) -> None:
    if asked.answer is None:
        _look(asked)
        if asked.answer is not None:
            st.rerun()
    answer = asked.answer
    if answer is None:
        _show_waiting(asked)
        return
    completed = answer.result.status is Status.COMPLETED
    how = "live from inference.results" if answer.live else "from the record at the API"
    took = f" in {milliseconds(answer.after_ms)}" if answer.after_ms is not None else ""
    label = f"Answered{took}, {how}" if completed else f"Ended as {answer.result.status}{took}, {how}"
    with st.status(label, state="complete" if completed else "error"):
        _show_stages(asked, answer)


def _look(asked: Asked) -> None:
    feed = resources.result_feed()
    now = time.monotonic()
    waited = now - asked.asked_at
    seen = feed.get(asked.request_id)
    if seen is not None:
        asked.answer = Answer(seen.result, True, waited * 1000 if asked.accepted_ms is not None else None)
    elif (waited > _LOOK_UP_AFTER_SECONDS or not feed.connected) and now - asked.looked_up_at > _LOOK_UP_EVERY_SECONDS:
        asked.looked_up_at = now
        try:
            found = resources.api().recommendation(asked.request_id)
        except ApiError as error:
            asked.trouble = str(error)
        else:
            asked.trouble = None
            asked.answer = _recorded(found, waited * 1000 if asked.accepted_ms is not None else None)


def _recorded(found: Recommendation, after_ms: float | None) -> Answer | None:
    return Answer(found.result, False, after_ms) if found.result is not None else None


def _show_waiting(asked: Asked) -> None:
    waited = time.monotonic() - asked.asked_at
    with st.status(f"Waiting for the answer, {waited:.0f} s", expanded=True):
        if asked.accepted_ms is not None:
            st.markdown(f"Accepted by the API in {milliseconds(asked.accepted_ms)}; it will not be lost.")
        st.markdown("Following `inference.results` for it.")
        if waited > _LONG_SECONDS:
            st.markdown(
                "This takes unusually long: perhaps no worker is running, or many requests wait. The answer appears "
                "here as soon as there is one; this page may be left and its address opened again."
            )
        if asked.trouble is not None:
            st.markdown(f"Looking it up failed: {plain(asked.trouble)}")


def _show_stages(asked: Asked, answer: Answer) -> None:
    lines = []
    if asked.accepted_ms is not None:
        lines.append(f"Accepted by the API: {milliseconds(asked.accepted_ms)}")
    timings = answer.result.timings_ms
    if timings is not None:
        lines += [
            f"Queued on `inference.requests`: {milliseconds(timings.queued)}",
            f"Waiting for its batch: {milliseconds(timings.batch_wait)}",
            f"Inference: {milliseconds(timings.inference)}",
            f"From request topic to answer: {milliseconds(timings.total)}",
        ]
    if answer.after_ms is not None:
        lines.append(f"Shown after {milliseconds(answer.after_ms)} in all")
    lines.append(f"Request id: `{asked.request_id}`")
    st.markdown("\n".join(f"- {line}" for line in lines))
