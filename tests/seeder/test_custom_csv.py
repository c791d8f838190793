import stat
from pathlib import Path
from typing import Any

import pytest

from recstream.messages.activity import EventType
from seeder.custom_csv import CsvOptions, open_csv
from seeder.fields import TimeUnit
from seeder.problem import SeedingProblem
from seeder.records import Interaction, Item
from seeder.rejects import Rejects
from seeder.tabular import NO_TIME_START_US
from tests.seeder.test_movielens import items_of, rows_of

_US = 1_600_000_000_000_000


def _read(tmp_path: Path, content: str | bytes, **options: Any) -> list[Interaction]:
    path = tmp_path / "events.csv"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return rows_of(open_csv(path, CsvOptions(**options), tmp_path / "rejects"))


def _rejected(tmp_path: Path) -> list[str]:
    return (tmp_path / "rejects" / "events.csv.rejected.tsv").read_text(errors="surrogateescape").splitlines()


def test_the_default_columns_in_any_order(tmp_path: Path) -> None:
    assert _read(tmp_path, "timestamp,x,item_id,user_id\n1600000000,,10,anna\n") == [
        Interaction("anna", "10", "view", 1.0, _US)
    ]


def test_named_columns_types_and_weights(tmp_path: Path) -> None:
    rows = _read(
        tmp_path,
        "visitor;action;sku;when;value\nanna;addtocart;10;1600000000000;2\nbob;View;11;2020-09-13T12:26:40Z;0.5\n",
        delimiter="semicolon",
        user_column="visitor",
        item_column="sku",
        time_column="when",
        type_column="action",
        event_types={"addtocart": EventType.LIKE},
        weight_column="value",
    )
    assert rows == [Interaction("anna", "10", "like", 2.0, _US), Interaction("bob", "11", "view", 0.5, _US)]


def test_a_weight_column_alone_makes_ratings(tmp_path: Path) -> None:
    content = "user_id,item_id,timestamp,stars\na,1,1600000000,4\n"
    assert _read(tmp_path, content, weight_column="stars")[0].event_type == "rating"
    assert _read(tmp_path, content, weight_column="stars", event_type=EventType.LIKE)[0].event_type == "like"


def test_positions_where_there_is_no_header(tmp_path: Path) -> None:
    expected = [Interaction("a", "1", "view", 1.0, _US)]
    assert _read(tmp_path, "a,1,1600000000\n", header=False) == expected
    options = {"user_column": "3", "item_column": "2", "time_column": "1"}
    assert _read(tmp_path, "1600000000\t1\ta\n", header=False, delimiter="tab", **options) == expected


def test_the_order_of_the_file_where_there_is_no_time(tmp_path: Path) -> None:
    rows = _read(tmp_path, "1 10\n1 20\n\n2 10\n", header=False, delimiter="space", time=False)
    assert [(row.user_id, row.item_id) for row in rows] == [("1", "10"), ("1", "20"), ("2", "10")]
    # By the line's number, so that a line mended later does not move the others.
    assert [row.created_us - NO_TIME_START_US for row in rows] == [1_000_000, 2_000_000, 4_000_000]


def test_a_unit_of_time(tmp_path: Path) -> None:
    [row] = _read(tmp_path, "user_id,item_id,timestamp\na,1,86400000\n", time_unit=TimeUnit.MILLISECONDS)
    assert row.created_us == 86_400_000_000


def test_a_tsv_needs_no_delimiter(tmp_path: Path) -> None:
    path = tmp_path / "events.tsv"
    path.write_text("user_id\titem_id\ttimestamp\na\t1\t1600000000\n")
    assert len(rows_of(open_csv(path, CsvOptions(), tmp_path))) == 1


def test_bad_rows_are_set_aside_with_number_reason_and_line(tmp_path: Path) -> None:
    rows = _read(
        tmp_path,
        b"user_id,item_id,timestamp,weight\n"
        b"a,1,1600000000,1\n"
        b"a,2,1600000000\n"
        b"a b,3,1600000000,1\n"
        b"a,,1600000000,1\n"
        b"a,5,soon,1\n"
        b"a,6,1600000000,nan\n"
        b"a\0,7,1600000000,1\n"
        b"a,\xff,1600000000,1\n"
        b'a,"9,1600000000,1\n'
        b"a,10,32503680000,1\n"
        b"a,11,1600000000,1\n",
        weight_column="weight",
    )
    assert [row.item_id for row in rows] == ["1", "11"]
    header, *lines = [line.split("\t", 2) for line in _rejected(tmp_path)]
    assert header == ["line_number", "reason", "line"]
    assert sorted(lines, key=lambda line: int(line[0])) == [
        ["3", "not 4 columns", "a,2,1600000000"],
        ["4", "bad user id", "a b,3,1600000000,1"],
        ["5", "no item id", "a,,1600000000,1"],
        ["6", "bad time", "a,5,soon,1"],
        ["7", "bad weight", "a,6,1600000000,nan"],
        ["8", "bad user id", "a\0,7,1600000000,1"],
        ["9", "not valid UTF-8", "a,\udcff,1600000000,1"],
        ["10", "quote never closed", 'a,"9,1600000000,1'],
        ["11", "time out of range", "a,10,32503680000,1"],
    ]


def test_a_file_that_is_bad_from_the_start_is_given_up(tmp_path: Path) -> None:
    content = "user_id,item_id,timestamp\n" + "a,1,never\n" * 60_000
    with pytest.raises(SeedingProblem, match=r"None of the first 10,000 rows .* bad time"):
        _read(tmp_path, content)
    assert len(_rejected(tmp_path)) < 60_000


def test_side_files_are_private_and_do_not_outlive_the_fault(tmp_path: Path) -> None:
    rejects = Rejects(tmp_path / "a" / "b", "events.csv")
    rejects.add(2, "bad time", b"x\r\n")
    rejects.finish()
    assert stat.S_IMODE(rejects.path.stat().st_mode) == 0o600
    assert rejects.path.read_text() == "line_number\treason\tline\n2\tbad time\tx\n"
    again = Rejects(tmp_path / "a" / "b", "events.csv")
    again.add(7, "bad weight", b"y")
    again.finish()
    assert again.path.read_text() == "line_number\treason\tline\n7\tbad weight\ty\n"
    Rejects(tmp_path / "a" / "b", "events.csv").finish()
    assert not rejects.path.exists()


def test_a_folder_for_side_files_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(SeedingProblem, match="--rejects"):
        Rejects(tmp_path / "file", "events.csv").add(1, "bad time", b"x")


def test_items_with_titles_and_genres(tmp_path: Path) -> None:
    (tmp_path / "events.csv").write_text("user_id,item_id,timestamp\na,1,1600000000\n")
    (tmp_path / "items.csv").write_text('sku,name,kinds\n1,"A, B\u00a0 C",x;y;x\n2,,z\n3,bad\0,z\n4,D,\n')
    options = CsvOptions(
        items=tmp_path / "items.csv", items_id_column="sku", title_column="name", genres_column="kinds",
        genres_separator=";",
    )  # fmt: skip
    assert items_of(open_csv(tmp_path / "events.csv", options, tmp_path)) == [
        Item("1", "A, B C", ("x", "y")),
        Item("4", "D", ()),
    ]
    assert (tmp_path / "items.csv.rejected.tsv").read_text().splitlines()[1:] == [
        "3\tno title\t2,,z",
        "4\tbad title\t3,bad\0,z",
    ]


@pytest.mark.parametrize(
    ("content", "options", "sentence"),
    [
        ("user_id,item_id\na,1\n", {}, "--no-time"),
        ("u,item_id,timestamp\na,1,1\n", {}, "no column 'user_id'; its columns are: u, item_id, timestamp"),
        ("a,1,1\n", {"header": False, "time_column": "4"}, "a position from 1 to 3, not '4'"),
        ("a,1,1\n", {"header": False, "user_column": "user"}, "a position from 1 to 3, not 'user'"),
        ("a\n", {"type_column": "t", "event_type": EventType.VIEW}, "not both"),
        ("a\n", {"time_column": "t", "time": False}, "not both"),
        ("a\n", {"delimiter": '"'}, "--delimiter takes"),
        ("\n\n", {}, "holds no line"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, content: str, options: dict[str, Any], sentence: str) -> None:
    with pytest.raises(SeedingProblem, match=sentence):
        _read(tmp_path, content, **options)


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(SeedingProblem, match="is a folder"):
        open_csv(tmp_path, CsvOptions(), tmp_path)
