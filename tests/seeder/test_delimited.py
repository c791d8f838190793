from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from seeder import lines
from seeder.delimited import DelimitedReader
from seeder.lines import Chunk, LineReader
from seeder.problem import SeedingProblem

Rows = list[tuple[int, list[str]]]
Rejected = list[tuple[int, str, bytes]]


def _read(content: bytes, tmp_path: Path, delimiter: str = ",", width: int | None = None, quoted: bool = True,
          latin1: bool = False) -> tuple[Rows, Rejected]:  # fmt: skip
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    return _records(LineReader(path).chunks(), DelimitedReader(delimiter, width=width, quoted=quoted, latin1=latin1))


def _records(chunks: object, reader: DelimitedReader) -> tuple[Rows, Rejected]:
    rejected: Rejected = []
    rows: Rows = []
    for records in reader.records(chunks, lambda *line: rejected.append(line)):  # type: ignore[arg-type]
        assert len(records.numbers) == len(records.lines) == len(records.fields)
        rows += [(number, list(fields)) for number, fields in zip(records.numbers, records.fields, strict=True)]
    return rows, rejected


def test_plain_lines(tmp_path: Path) -> None:
    assert _read(b"a,b\n1,2\n", tmp_path) == ([(1, ["a", "b"]), (2, ["1", "2"])], [])


def test_no_line_feed_at_the_end_carriage_returns_and_byte_order_mark(tmp_path: Path) -> None:
    assert _read(b"\xef\xbb\xbfa,b\r\n1,2", tmp_path) == ([(1, ["a", "b"]), (2, ["1", "2"])], [])


def test_blank_lines_are_passed_over_and_counted(tmp_path: Path) -> None:
    assert _read(b"a,b\n\n\r\n1,2\n\n", tmp_path) == ([(1, ["a", "b"]), (4, ["1", "2"])], [])


def test_delimiters_of_several_characters(tmp_path: Path) -> None:
    assert _read(b"1::2:3::4\n", tmp_path, "::", quoted=False) == ([(1, ["1", "2:3", "4"])], [])


def test_quoted_fields(tmp_path: Path) -> None:
    rows, rejected = _read(b'1,"a, ""b"""\n2,c\n', tmp_path)
    assert (rows, rejected) == ([(1, ["1", 'a, "b"']), (2, ["2", "c"])], [])


def test_quotes_mean_nothing_where_the_format_has_none(tmp_path: Path) -> None:
    assert _read(b'1\t"a\n', tmp_path, "\t", quoted=False) == ([(1, ["1", '"a'])], [])


def test_a_quoted_field_may_hold_line_feeds(tmp_path: Path) -> None:
    rows, rejected = _read(b'1,"a\nb\r\n\nc"\n2,d\n', tmp_path)
    assert (rows, rejected) == ([(1, ["1", "a\nb\n\nc"]), (5, ["2", "d"])], [])


def test_a_line_feed_within_quotes_keeps_the_numbers_of_later_lines(tmp_path: Path) -> None:
    assert _read(b'1,"a\nb"\n2,c\n', tmp_path) == ([(1, ["1", "a\nb"]), (3, ["2", "c"])], [])


def test_an_unclosed_quote_costs_its_own_line_only(tmp_path: Path) -> None:
    content = b'1,a\n2,"b\n' + b"".join(b"%d,c\n" % number for number in range(3, 200))
    rows, rejected = _read(content, tmp_path)
    assert rejected == [(2, "quote never closed", b'2,"b')]
    assert [number for number, _ in rows] == [1, *range(3, 200)]


def test_two_unclosed_quotes_do_not_make_a_record_of_what_lies_between(tmp_path: Path) -> None:
    rows, rejected = _read(b'1,a\n2,"b\n3,c\n4,"d\n5,e\n', tmp_path)
    assert [number for number, _ in rows] == [1, 3, 5]
    assert [number for number, _, _ in rejected] == [2, 4]


def test_a_quote_that_closes_in_another_record_makes_none_of_the_wrong_width(tmp_path: Path) -> None:
    rows, rejected = _read(b'1,a\n2,"b\n3,c\n4,",d\n5,e\n', tmp_path)
    assert [number for number, _ in rows] == [1, 3, 5]
    assert [number for number, _, _ in rejected] == [2, 4]


def test_a_misplaced_quote(tmp_path: Path) -> None:
    rows, rejected = _read(b'1,a\n2,"b"c\n3,d\n', tmp_path)
    assert rejected == [(2, "misplaced quote or oversized field", b'2,"b"c')]
    assert [number for number, _ in rows] == [1, 3]


def test_wrong_numbers_of_columns(tmp_path: Path) -> None:
    rows, rejected = _read(b"a,b\n1\n2,3\n4,5,6\n", tmp_path)
    assert rejected == [(2, "not 2 columns", b"1"), (4, "not 2 columns", b"4,5,6")]
    assert rows == [(1, ["a", "b"]), (3, ["2", "3"])]


def test_invalid_utf8(tmp_path: Path) -> None:
    rows, rejected = _read(b"1,a\n2,\xe9\n3,\xc3\xa9\n", tmp_path)
    assert rejected == [(2, "not valid UTF-8", b"2,\xe9")]
    assert rows == [(1, ["1", "a"]), (3, ["3", "é"])]


def test_latin1_line_by_line_where_the_format_allows_it(tmp_path: Path) -> None:
    rows, rejected = _read(b"1,\xe9\n2,\xc3\xa9\n", tmp_path, latin1=True)
    assert (rows, rejected) == ([(1, ["1", "é"]), (2, ["2", "é"])], [])


def test_lines_and_quoted_fields_across_chunks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK_BYTES", 16)
    rows, rejected = _read(b'1,aaaaaaaa\n2,"bbbbb\nccccccccc\ndd"\n3,e\n' * 5, tmp_path)
    assert rejected == []
    assert rows == [
        row
        for start in range(0, 25, 5)
        for row in (
            (start + 1, ["1", "aaaaaaaa"]),
            (start + 2, ["2", "bbbbb\nccccccccc\ndd"]),
            (start + 5, ["3", "e"]),
        )
    ]


def test_a_line_without_end_is_cut_off_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lines, "CHUNK_BYTES", 64)
    rows, rejected = _read(b"1,a\n2," + b"x" * 10_000 + b"\n3,b\n", tmp_path)
    assert [number for number, _ in rows] == [1, 3]
    [(number, reason, kept)] = rejected
    assert (number, reason) == (2, "line too long")
    assert len(kept) < 200


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "is empty"),
        ("a,b".encode("utf-16"), "UTF-16"),
        (b"\x1f\x8b\x08\x00", "compressed"),
        (b"PK\x03\x04", "ZIP"),
    ],
)
def test_files_that_are_no_text(content: bytes, sentence: str, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(SeedingProblem, match=sentence):
        LineReader(path)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(SeedingProblem, match=r"cannot be read: No such file"):
        LineReader(tmp_path / "file")


_field = st.text(st.characters(blacklist_characters='",\r\n', blacklist_categories=["Cs"]), min_size=1, max_size=5)
_line = st.lists(_field, min_size=2, max_size=3).map(lambda fields: ",".join(fields).encode()) | st.sampled_from(
    [b'1,"a"', b'"1","b,c"', b'1,"', b'"1"x,2', b"\xff,1", b"", b"\r", b"1,2\r", b'1,a"b']
)


@given(st.lists(_line, max_size=30), st.integers(1, 30))
def test_chunks_as_a_whole_and_line_by_line_give_the_same(content: list[bytes], size: int) -> None:
    """However a file falls into chunks, with whatever faults, each record and each rejected line is the same."""
    content = [b"a,b", *content]
    pieces = [Chunk(start + 1, content[start : start + size]) for start in range(0, len(content), size)]
    by_line = DelimitedReader(",", quoted=True)
    by_line._at_once = lambda chunk: None  # type: ignore[method-assign]
    assert _records(pieces, DelimitedReader(",", quoted=True)) == _records(pieces, by_line)
