"""Ids as typed, text that Markdown must leave alone, and what a visit's reactions add to a request."""

from datetime import UTC, datetime, timedelta

import pytest

from recstream.messages.activity import EventType
from recstream.messages.inference import MAX_HISTORY
from ui.api_client import StoredInteraction
from ui.charts import percentile
from ui.formatting import count, milliseconds, plain
from ui.item_ids import parse_item_ids
from ui.reactions import Reaction, as_request_members, not_stored_yet

NOW = datetime(2026, 1, 31, 9, 30, tzinfo=UTC)


@pytest.mark.parametrize("text", ["10, 20, 30", "10,20,30", " 10 20\n30 ", "10;20;30,", ",,10\t20 , 30"])
def test_ids_may_be_separated_in_many_ways(text: str) -> None:
    typed = parse_item_ids(text)
    assert (typed.item_ids, typed.problem) == (["10", "20", "30"], None)


@pytest.mark.parametrize("text", ["", "  \n", ",;,"])
def test_no_id_is_a_problem_that_shows_an_example(text: str) -> None:
    assert "10, 20, 30" in str(parse_item_ids(text).problem)


def test_a_wrong_id_is_named() -> None:
    typed = parse_item_ids("10, a/b, 30")
    assert typed.item_ids == []
    assert "“a/b” is not an item id" in str(typed.problem)


def test_many_wrong_ids_are_not_all_named() -> None:
    problem = str(parse_item_ids(" ".join(f"{n}/" for n in range(9)) + " " + "x" * 65).problem)
    assert "“0/”, “1/”" in problem
    assert "and 5 more are not item ids" in problem


def test_more_ids_than_a_request_takes_are_a_problem() -> None:
    assert parse_item_ids(" ".join(["1"] * MAX_HISTORY)).problem is None
    assert "at most 1,000" in str(parse_item_ids(" ".join(["1"] * (MAX_HISTORY + 1))).problem)


def test_text_is_escaped_for_markdown() -> None:
    assert plain("a *b* <i> [x](y) $z$") == r"a \*b\* \<i\> \[x\]\(y\) \$z\$"
    assert plain("two\nlines  and   spaces") == "two lines and spaces"
    assert ":smile:" not in plain(":smile:").replace("\\", "")
    assert plain("Solaris: the film") == r"Solaris\: the film"
    assert plain("Amélie 千") == "Amélie 千"


def test_durations_and_counts() -> None:
    assert [milliseconds(value) for value in (6.73, 189.4, 1250)] == ["6.7 ms", "189 ms", "1.25 s"]
    assert [count(number, "item") for number in (0, 1, 1234)] == ["0 items", "1 item", "1,234 items"]


def test_percentiles_are_values_that_occurred() -> None:
    values = [float(n) for n in range(1, 101)]
    assert (percentile(values, 0.5), percentile(values, 0.95), percentile(values, 1.0)) == (51.0, 96.0, 100.0)
    assert percentile([7.0], 0.95) == 7.0


def test_the_latest_word_on_an_item_counts() -> None:
    said = [
        Reaction("1", EventType.LIKE, NOW),
        Reaction("2", EventType.LIKE, NOW),
        Reaction("1", EventType.DISMISS, NOW),
        Reaction("3", EventType.DISMISS, NOW),
        Reaction("3", EventType.LIKE, NOW),
    ]
    assert as_request_members(said) == {"recent_items": ["2", "3"], "exclude": ["1"]}
    assert as_request_members([]) == {}


def test_a_reaction_is_sent_along_until_it_is_stored() -> None:
    like, dismissal = Reaction("1", EventType.LIKE, NOW), Reaction("2", EventType.DISMISS, NOW)
    earlier = StoredInteraction("1", "like", NOW - timedelta(days=1), None, [])
    stored = StoredInteraction("2", "dismiss", NOW, None, [])
    assert not_stored_yet([like, dismissal], [earlier, stored]) == [like]
