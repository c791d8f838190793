import uuid

from seeder.event_ids import event_ids
from seeder.records import Interaction, Interactions

_ROW = Interaction("user_1", "10", "rating", 3.5, 1_600_000_000_123_456)


def _ids(*rows: Interaction) -> list[uuid.UUID]:
    block = Interactions.of(rows)
    texts = [f"{row.event_type}|{row.user_id}|{row.item_id}".encode() for row in rows]
    return [uuid.UUID(bytes=bytes(row)) for row in event_ids(block, texts)]


def test_it_is_a_uuid_version_8_that_begins_with_the_time() -> None:
    [found] = _ids(_ROW)
    assert (found.version, found.variant) == (8, uuid.RFC_4122)
    assert found.int >> 80 == 1_600_000_000_123


def test_the_same_content_has_the_same_id_forever() -> None:
    assert _ids(_ROW) == _ids(_ROW) == [uuid.UUID("0174876e-807b-8547-8c74-13ab683bd951")]


def test_any_other_content_has_another() -> None:
    others = [
        _ROW,
        _ROW._replace(user_id="user_2"),
        _ROW._replace(item_id="11"),
        _ROW._replace(event_type="view"),
        _ROW._replace(weight=4.0),
        _ROW._replace(created_us=_ROW.created_us + 1),
        _ROW._replace(created_us=_ROW.created_us + 1_000),
    ]
    assert len(set(_ids(*others))) == len(others)


def test_times_before_1970_count_as_1970_in_the_prefix_only() -> None:
    first, second = _ids(_ROW._replace(created_us=-5_000_000), _ROW._replace(created_us=-6_000_000))
    assert first.int >> 80 == second.int >> 80 == 0
    assert first != second


def test_no_rows_no_ids() -> None:
    assert _ids() == []
