"""Identifiers, codec and headers."""

import contextlib
import uuid
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Struct

from recstream.messages.activity import EventType, InteractionRecorded
from recstream.messages.codec import BadMessage, Reason, decode, encode
from recstream.messages.control import ModelAnnounced, WorkerStatus
from recstream.messages.envelope import EVENT_TYPES, check_event_type, event_headers, header
from recstream.messages.identifiers import is_identifier, new_request_id
from recstream.messages.inference import InferenceRequested, InferenceResult
from recstream.messages.topics import INFERENCE_REQUESTS, SYSTEM_CONTROL, TOPICS

KINDS: list[type[Struct]] = [InferenceRequested, InferenceResult, InteractionRecorded, ModelAnnounced, WorkerStatus]


@pytest.mark.parametrize("text", ["1", "user_1", "ü", "a" * 64, "日本", "sasrec-20260101T000000Z-0a1b2c3d", "a:b|c"])
def test_identifiers_that_may_be(text: str) -> None:
    assert is_identifier(text)


@pytest.mark.parametrize(
    "text", ["", "a" * 65, "a/b", "a b", "a\n", "a\x00", "\ud800", "a\u200b", "\u202e", "a\u00a0b", "\x7f"]
)
def test_identifiers_that_may_not_be(text: str) -> None:
    assert not is_identifier(text)


def test_request_ids_are_uuids_of_version_7_in_order() -> None:
    ids = [new_request_id() for _ in range(1000)]
    assert ids == sorted(ids)
    assert {made.version for made in ids} == {7}


@given(st.binary(max_size=300) | st.none())
def test_any_bytes_are_a_message_or_a_bad_message(value: bytes | None) -> None:
    for kind in KINDS:
        with contextlib.suppress(BadMessage):
            assert isinstance(decode(value, kind), kind)


@pytest.mark.parametrize(
    "value",
    [
        b'{"request_id": NaN}',
        b'{"request_id": "not a uuid", "history": [], "k": 1}',
        b'{"request_id": "01a1fc4e-fc83-76a5-8f2b-2fa5d84fcbce", "history": ["1"], "k": 0}',
        b'{"request_id": "01a1fc4e-fc83-76a5-8f2b-2fa5d84fcbce", "history": [true], "k": 1}',
        b"[" * 20_000,
        b"\xff\xfe",
        b"null",
    ],
)
def test_bad_requests_are_told_apart(value: bytes) -> None:
    with pytest.raises(BadMessage) as caught:
        decode(value, InferenceRequested)
    assert caught.value.reason is Reason.MALFORMED


def test_interactions_that_no_row_could_hold_are_refused() -> None:
    for change in (
        {"user_id": "a\x00"},
        {"item_id": "a/b"},
        {"weight": float("inf")},
        {"occurred_at": datetime(2026, 1, 1)},
    ):
        values = {
            "event_id": uuid.uuid4(),
            "user_id": "u",
            "item_id": "1",
            "event_type": EventType.VIEW,
            "occurred_at": datetime.now(UTC),
        }
        with pytest.raises(ValueError, match=r"id is not|finite|time zone"):
            InteractionRecorded(**(values | change))  # type: ignore[arg-type]


def test_a_message_survives_the_codec() -> None:
    request = InferenceRequested(request_id=new_request_id(), history=["10", "20"], k=5, user_id="user_1")
    assert decode(encode(request), InferenceRequested) == request


def test_headers_are_cloud_events_and_name_the_version() -> None:
    headers = event_headers(InferenceRequested, "api", event_id="e1", traceparent="00-a-b-01")
    assert dict(headers).keys() == {
        "ce_specversion", "ce_id", "ce_type", "ce_source", "ce_time", "content-type", "traceparent",
    }  # fmt: skip
    assert header(headers, "ce_id") == "e1"
    check_event_type(headers, InferenceRequested)


def test_another_type_or_version_is_refused_and_none_is_taken() -> None:
    check_event_type([], InferenceRequested)
    with pytest.raises(BadMessage) as caught:
        check_event_type([("ce_type", b"recstream.inference.requested.v2")], InferenceRequested)
    assert caught.value.reason is Reason.UNKNOWN_TYPE


def test_every_topic_with_a_message_has_a_type_for_it() -> None:
    assert {topic.message for topic in TOPICS if topic.message is not None} == EVENT_TYPES.keys()


def test_dead_letter_topics_stand_beside_those_that_have_them() -> None:
    assert INFERENCE_REQUESTS.dead_letters in TOPICS
    with pytest.raises(ValueError, match="no dead-letter topic"):
        _ = SYSTEM_CONTROL.dead_letters
    assert all(topic.config["message.timestamp.type"] == "LogAppendTime" for topic in TOPICS)
