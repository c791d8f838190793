"""The lines of a file of any size, some thousand at a time."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from seeder.problem import SeedingProblem

CHUNK_BYTES = 1 << 18
"""Read at a time. A line that fills a chunk is cut off, so that a file without line ends does not fill the memory."""

_MARKS = {
    b"\xff\xfe": "is in UTF-16; save it as UTF-8",
    b"\xfe\xff": "is in UTF-16; save it as UTF-8",
    b"\x1f\x8b": "is compressed; unpack it first (gunzip)",
    b"PK\x03\x04": "is a ZIP archive; unpack it first",
}
_UTF8_MARK = b"\xef\xbb\xbf"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Whole lines, without their line feeds. `first_number` counts from 1."""

    first_number: int
    lines: list[bytes]
    cut_off: bool = False
    """The only line is the beginning of one that was too long."""


class LineReader:
    """Reads a file by chunks. `position` is how many bytes were read, of `size`.

    Raises SeedingProblem where the file cannot be opened, is not text or is empty.
    """

    def __init__(self, path: Path) -> None:
        try:
            with path.open("rb") as file:
                beginning = file.read(4)
            self.size = path.stat().st_size
        except OSError as error:
            raise SeedingProblem(f"{path} cannot be read: {error.strerror}.") from error
        if not beginning:
            raise SeedingProblem(f"{path} is empty.")
        for mark, what in _MARKS.items():
            if beginning.startswith(mark):
                raise SeedingProblem(f"{path} {what}.")
        self._path = path
        self.position = len(_UTF8_MARK) if beginning.startswith(_UTF8_MARK) else 0

    def chunks(self) -> Iterator[Chunk]:
        """Yield every line once; close the file at the end."""
        with self._path.open("rb") as file:
            file.seek(self.position)
            number = 1
            rest = b""
            skipping = False  # the remainder of a line that was cut off
            while block := file.read(CHUNK_BYTES):
                self.position += len(block)
                if skipping:
                    _, end, block = block.partition(b"\n")
                    skipping = not end
                *lines, rest = (rest + block).split(b"\n")
                if lines:
                    yield Chunk(number, lines)
                    number += len(lines)
                if len(rest) >= CHUNK_BYTES:
                    yield Chunk(number, [rest], cut_off=True)
                    number += 1
                    rest, skipping = b"", True
            if rest:
                yield Chunk(number, [rest])
