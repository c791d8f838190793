"""Records of a delimited text file (RFC 4180 where it has quotes), in which one bad line spoils no other."""

import csv
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from seeder.lines import Chunk

Reject = Callable[[int, str, bytes], None]
"""Takes a line's number, the reason, and the line."""

_MOST_LINES_A_RECORD = 50
_KEPT_OF_LONG_LINES = 1_000


@dataclass(frozen=True, slots=True)
class Records:
    """Records that have the right number of fields, each with the line on which it begins."""

    numbers: Sequence[int]
    lines: Sequence[bytes]
    fields: Sequence[Sequence[str]]

    def after_first(self) -> "Records | None":
        """Return all but the first record, or None where there is no other."""
        return Records(self.numbers[1:], self.lines[1:], self.fields[1:]) if len(self.fields) > 1 else None


@dataclass(frozen=True, slots=True)
class _Line:
    number: int
    content: bytes


class DelimitedReader:
    """Splits lines at `delimiter`; with `quoted`, fields may stand in double quotes and then hold anything.

    A chunk without a fault is split as a whole; another one line by line, with the same result. A quote that is never
    closed, a frequent defect, swallows the rest of a file that the csv module reads. Here a record may extend over
    fifty lines at most; where no record of `width` fields comes of it, only its first line is rejected and reading
    goes on with the second. Blank lines are passed over.

    Args:
        delimiter: One or more characters.
        width: How many fields a record has; None takes the first record's number.
        quoted: Whether double quotes have a meaning. Needs a delimiter of one character.
        latin1: Read a line that is not UTF-8 as ISO 8859-1, as the older MovieLens sets are.
    """

    def __init__(self, delimiter: str, *, width: int | None = None, quoted: bool = False, latin1: bool = False) -> None:
        if quoted and len(delimiter) != 1:
            raise ValueError("quotes need a delimiter of one character")
        self.width = width
        self._delimiter = delimiter
        self._quoted = quoted
        self._latin1 = latin1

    def records(self, chunks: Iterable[Chunk], reject: Reject) -> Iterator[Records]:
        """Yield the records that have the right number of fields; hand every other line to `reject`."""
        source = iter(chunks)
        for chunk in source:
            if chunk.cut_off:
                reject(chunk.first_number, "line too long", chunk.lines[0][:_KEPT_OF_LONG_LINES])
                continue
            records = self._at_once(chunk) or self._line_by_line(chunk, source, reject)
            if records.fields:
                yield records

    def _at_once(self, chunk: Chunk) -> Records | None:
        """Return the chunk's records, or None where any line of it needs a closer look."""
        try:
            text = b"\n".join(chunk.lines).decode()
        except UnicodeDecodeError:
            return None
        lines = text.replace("\r\n", "\n").removesuffix("\r").split("\n")
        if self._quoted and '"' in text:
            try:
                fields = list(csv.reader(lines, delimiter=self._delimiter, strict=True))
            except csv.Error:
                return None
            if len(fields) != len(lines):
                return None
        else:
            delimiter = self._delimiter
            fields = [line.split(delimiter) for line in lines]
        widths = set(map(len, fields))
        if widths != {self.width or len(fields[0])} or "" in lines:
            return None
        self.width = len(fields[0])
        return Records(range(chunk.first_number, chunk.first_number + len(lines)), chunk.lines, fields)

    def _line_by_line(self, chunk: Chunk, source: Iterator[Chunk], reject: Reject) -> Records:
        """Return the good records of the chunk, and of those after it that a quoted field reaches into."""
        pending: deque[_Line] = deque(_lines_of(chunk))
        numbers: list[int] = []
        lines: list[bytes] = []
        good: list[list[str]] = []
        while pending:
            line = pending.popleft()
            fields, reason = self._split(line, pending, source)
            if fields is None:
                reject(line.number, reason, line.content)
            elif fields:
                numbers.append(line.number)
                lines.append(line.content)
                good.append(fields)
        return Records(numbers, lines, good)

    def _split(self, line: _Line, pending: deque[_Line], source: Iterator[Chunk]) -> tuple[list[str] | None, str]:
        """Return the fields of the record that begins on `line`, none for a blank line; or None and the reason."""
        text = self._decode(line.content)
        if text is None:
            return None, "not valid UTF-8"
        text = text.removesuffix("\r")
        if not text:
            return [], ""
        if self._quoted and '"' in text:
            return self._split_quoted(text, pending, source)
        return self._checked(text.split(self._delimiter))

    def _split_quoted(self, text: str, pending: deque[_Line], source: Iterator[Chunk]) -> tuple[list[str] | None, str]:
        """As `_split`. Takes the record's further lines off `pending`, but only if a record comes of them."""
        parts = [text]
        for further in range(_MOST_LINES_A_RECORD):
            try:
                fields = next(csv.reader([part + "\n" for part in parts], delimiter=self._delimiter, strict=True))
            except csv.Error as error:
                if "unexpected end of data" not in str(error):
                    return None, "misplaced quote or oversized field"
            else:
                if further and self.width is not None and len(fields) != self.width:
                    break
                for _ in range(further):
                    pending.popleft()
                return self._checked(fields)
            if further == len(pending):
                chunk = next(source, None)
                # A line that was cut off ends no record; its place in the file is lost with it.
                if chunk is None or chunk.cut_off:
                    break
                pending.extend(_lines_of(chunk))
            following = self._decode(pending[further].content)
            if following is None:
                break
            parts.append(following.removesuffix("\r"))
        return None, "quote never closed"

    def _checked(self, fields: list[str]) -> tuple[list[str] | None, str]:
        if self.width is None:
            self.width = len(fields)
        return (fields, "") if len(fields) == self.width else (None, f"not {self.width} columns")

    def _decode(self, content: bytes) -> str | None:
        try:
            return content.decode()
        except UnicodeDecodeError:
            return content.decode("latin-1") if self._latin1 else None


def _lines_of(chunk: Chunk) -> Iterator[_Line]:
    for number, content in enumerate(chunk.lines, start=chunk.first_number):
        yield _Line(number, content)
