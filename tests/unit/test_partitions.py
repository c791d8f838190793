"""Months of UUIDv7 keys."""

from datetime import UTC, datetime

import pytest

from recstream.db.partitions import lower_bound, month_start
from recstream.messages.identifiers import new_request_id
from recstream.ops.clock import utc_now


@pytest.mark.parametrize(
    ("offset", "expected"),
    [(0, (2026, 11)), (1, (2026, 12)), (2, (2027, 1)), (14, (2028, 1))],
)
def test_months_pass_the_year(offset: int, expected: tuple[int, int]) -> None:
    assert month_start(datetime(2026, 11, 21, 4, tzinfo=UTC), offset) == datetime(*expected, 1, tzinfo=UTC)


def test_a_new_id_lies_in_this_month() -> None:
    now = utc_now()
    assert lower_bound(month_start(now)) <= new_request_id() < lower_bound(month_start(now, 1))
