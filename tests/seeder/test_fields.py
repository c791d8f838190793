from collections.abc import Callable
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from recstream.messages.activity import EventType
from seeder import fields
from seeder.fields import (
    BadField,
    Remembering,
    TimeUnit,
    event_type_parser,
    parse_item_id,
    parse_user_id,
    parse_weight,
    time_column_parser,
    time_parser,
)

_MOMENT_US = 1_600_000_000_000_000  # 2020-09-13T12:26:40Z


@pytest.mark.parametrize(
    "text",
    [
        "1600000000",
        "1600000000.0",
        "1.6e9",
        "1600000000000",
        "1600000000000000",
        "1600000000000000000",
        "2020-09-13T12:26:40Z",
        "2020-09-13T14:26:40+02:00",
        "2020-09-13 12:26:40",
        "2020-09-13 12:26:40 UTC",
        " 2020-09-13T12:26:40.000 ",
        "20200913T122640",
    ],
)
def test_one_moment_in_many_forms(text: str) -> None:
    assert time_parser(TimeUnit.AUTO)(text) == _MOMENT_US


@pytest.mark.parametrize(
    ("unit", "text"),
    [
        (TimeUnit.SECONDS, "1600000000"),
        (TimeUnit.MILLISECONDS, "1600000000000"),
        (TimeUnit.MICROSECONDS, "1600000000000000"),
        (TimeUnit.NANOSECONDS, "1600000000000000000"),
    ],
)
def test_a_given_unit_counts(unit: TimeUnit, text: str) -> None:
    assert time_parser(unit)(text) == _MOMENT_US


def test_a_given_unit_beats_the_size() -> None:
    assert time_parser(TimeUnit.MILLISECONDS)("1000") == 1_000_000
    assert time_parser(TimeUnit.AUTO)("1000") == 1_000_000_000


def test_fractions_of_seconds_are_kept() -> None:
    assert time_parser(TimeUnit.AUTO)("1600000000.25") == _MOMENT_US + 250_000
    assert time_parser(TimeUnit.AUTO)("2020-09-13T12:26:40.000001Z") == _MOMENT_US + 1


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no time"),
        ("   ", "no time"),
        ("yesterday", "bad time"),
        ("2020-13-01", "bad time"),
        ("1_600_000_000", "bad time"),
        ("١٦٠٠٠٠٠٠٠٠", "bad time"),
        ("1600000000\0", "bad time"),
        ("nan", "time out of range"),
        ("inf", "time out of range"),
        ("9" * 5_000, "time out of range"),
        ("1899-12-31", "time out of range"),
        ("2100-01-01", "time out of range"),
        ("99999999999", "time out of range"),
        ("-3000000000", "time out of range"),
    ],
)
def test_bad_times(text: str, reason: str) -> None:
    with pytest.raises(BadField, match=f"^{reason}$"):
        time_parser(TimeUnit.AUTO)(text)


def test_times_reach_from_1900_to_2099() -> None:
    parse = time_parser(TimeUnit.AUTO)
    assert parse("1900-01-01") == int(datetime(1900, 1, 1, tzinfo=UTC).timestamp()) * 1_000_000
    assert parse("2099-12-31") == int(datetime(2099, 12, 31, tzinfo=UTC).timestamp()) * 1_000_000


_TIMES = st.one_of(
    st.integers(0, 10**21).map(str),
    st.integers(0, 4_102_444_800).map(str),
    st.sampled_from(["", "0", "1600000000", "1600000000000", "99999999999", "100000000000", "2020-09-13", "nan", "٣"]),
)


@given(st.lists(_TIMES, max_size=6), st.sampled_from(TimeUnit))
def test_a_column_is_parsed_as_its_texts_are(texts: list[str], unit: TimeUnit) -> None:
    def outcome(parse: Callable[[], list[int]]) -> list[int] | str:
        try:
            return parse()
        except BadField as error:
            return str(error)

    one = time_parser(unit)
    assert outcome(lambda: time_column_parser(unit)(texts)) == outcome(lambda: [one(text) for text in texts])


@pytest.mark.parametrize("text", ["nan", "inf", "-inf", "1e999", "", "five", "1_0", "٣"])
def test_bad_weights(text: str) -> None:
    with pytest.raises(BadField, match=r"^bad weight$"):
        parse_weight(text)


def test_weights() -> None:
    assert [parse_weight(text) for text in ("3", "2.5", "-1", " 4 ")] == [3.0, 2.5, -1.0, 4.0]


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "no item id"),
        (" ", "no item id"),
        ("a/b", "bad item id"),
        ("a b", "bad item id"),
        ("x" * 65, "bad item id"),
        ("a\0", "bad item id"),
        ("a\u200b", "bad item id"),
        ("\ud800", "bad item id"),
    ],
)
def test_bad_ids(text: str, reason: str) -> None:
    with pytest.raises(BadField, match=f"^{reason}$"):
        parse_item_id(text)


def test_ids_lose_spaces_around_them_and_gain_the_prefix() -> None:
    assert parse_item_id(" 12 ") == "12"
    assert parse_user_id("12", prefix="user_") == "user_12"
    with pytest.raises(BadField, match="bad user id"):
        parse_user_id("x" * 60, prefix="user_")


def test_event_types_by_their_own_names_and_by_others() -> None:
    parse = event_type_parser({"Transaction": EventType.PURCHASE})
    assert [parse(text) for text in ("view", "LIKE", " rating ", "transaction")] == [
        "view",
        "like",
        "rating",
        "purchase",
    ]
    with pytest.raises(BadField, match="unknown event type"):
        parse("addtocart")


def test_remembering_is_bounded_and_forgets_failures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fields, "MOST_REMEMBERED", 3)
    parsed = Remembering(parse_item_id)
    for number in range(10):
        assert parsed[str(number)] == str(number)
        assert len(parsed) <= 3
    for _ in range(2):
        with pytest.raises(BadField):
            parsed["a b"]
