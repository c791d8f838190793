"""Lines that could not be imported, kept in a side file with their numbers and the reasons."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Self

from seeder.problem import SeedingProblem


class Rejects:
    """Counts rejected lines by reason and writes them to `<folder>/<name>.rejected.tsv`.

    Three columns: line number, reason, and the line as it was read (all that follows the second tab). The file appears
    with the first rejected line, readable by its owner only (it holds personal data), and takes the place of an earlier
    run's. Without any, an earlier run's file is removed: it would speak of lines that are mended now.
    """

    def __init__(self, folder: Path, name: str) -> None:
        self.path = folder / f"{name}.rejected.tsv"
        self.reasons: Counter[str] = Counter()
        self._file: BinaryIO | None = None

    @property
    def count(self) -> int:
        """Lines rejected so far."""
        return self.reasons.total()

    def add(self, line_number: int, reason: str, line: bytes) -> None:
        """Reject a line. `reason` is one of few texts, without the line's content, so that it can be counted."""
        self.reasons[reason] += 1
        if self._file is None:
            self._file = self._open()
        self._file.write(f"{line_number}\t{reason}\t".encode() + line.rstrip(b"\r\n") + b"\n")

    def _open(self) -> BinaryIO:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            self.path.unlink(missing_ok=True)
            file = self.path.open("xb")
            self.path.chmod(0o600)
        except OSError as error:
            raise SeedingProblem(
                f"Rejected lines cannot be written to {self.path} ({error.strerror}); name a folder with --rejects."
            ) from error
        file.write(b"line_number\treason\tline\n")
        return file

    @contextmanager
    def closed_on_error(self) -> Iterator[Self]:
        """Close the file where the block fails; its owner closes it otherwise."""
        try:
            yield self
        except BaseException:
            self.close()
            raise

    def close(self) -> None:
        """Close the file, keeping what an earlier run left where nothing was rejected so far."""
        if self._file is not None:
            self._file.close()

    def finish(self) -> None:
        """Close the file; where nothing was rejected, remove an earlier run's."""
        self.close()
        if self._file is None:
            self.path.unlink(missing_ok=True)
