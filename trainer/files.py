"""Public data sets from files, in the forms in which they are given away, as the trainer holds them."""

import csv
from array import array
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Final

import numpy as np

from trainer.interactions import Interactions
from trainer.refusal import TrainingRefused

_Event = tuple[str, str, int | None]
"""User, item, and the time in microseconds since the Unix epoch where it is known."""

_SECOND: Final = 1_000_000


def read_file(path: Path) -> Interactions:
    """Return the interactions in `path`; within a user in the order of time, ties and untimed events in the file's.

    By the name's ending: `.csv`, `.dat`, `.data` and `.inter` are MovieLens' ratings (`./run seed` knows the same),
    every rating an interaction; `.txt` has a line `user item` an event, or a line `user item item ...` a user, without
    times. Raises TrainingRefused where the file cannot be read or has another form.
    """
    events = _FORMS.get(path.suffix)
    if events is None:
        raise TrainingRefused(f"{path.name} has none of the endings that are known: {', '.join(_FORMS)}.")
    try:
        with path.open(encoding="utf-8-sig", newline="") as lines:
            data = _collect(events(lines))
    except OSError as error:
        raise TrainingRefused(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, OverflowError, csv.Error) as error:
        raise TrainingRefused(f"{path.name} is not in the form that {path.suffix} stands for: {error}.") from error
    if not len(data.codes):
        raise TrainingRefused(f"{path.name} holds no interaction.")
    return data


def _collect(events: Iterable[_Event]) -> Interactions:
    users: dict[str, int] = {}
    items: dict[str, int] = {}
    user_of, code_of, time_of = array("l"), array("i"), array("q")
    for user, item, time in events:
        user_of.append(users.setdefault(user, len(users)))
        code_of.append(items.setdefault(item, len(items) + 1))
        if time is not None:
            time_of.append(time)
    owners, codes, times = (np.array(each) for each in (user_of, code_of, time_of))
    timed = len(times) > 0
    # Stable, so that what happened at the same time keeps the file's order; sorting by item would flatter a model.
    order = np.lexsort((times, owners)) if timed else np.argsort(owners, kind="stable")
    counts = np.bincount(owners.astype(np.int64), minlength=len(users))
    return Interactions(
        item_ids=tuple(items),
        codes=codes[order].astype(np.int32),
        offsets=np.concatenate([[0], np.cumsum(counts)]).astype(np.int64),
        times=times[order].astype(np.int64) if timed else None,
    )


def _text(lines: Iterable[str]) -> Iterator[_Event]:
    rows = [fields for line in lines if (fields := line.split())]
    if all(len(fields) == 2 for fields in rows):
        yield from ((user, item, None) for user, item in rows)
        return
    listed: set[str] = set()
    for number, (user, *items) in enumerate(rows, start=1):
        if user in listed or not items:
            raise ValueError(f"entry {number} is neither `user item` nor the only `user item item ...` of its user")
        listed.add(user)
        yield from ((user, item, None) for item in items)


def _comma_separated(lines: Iterable[str]) -> Iterator[_Event]:
    yield from _table(csv.reader(lines, strict=True), ("userId", "movieId", "timestamp"))


def _atomic(lines: Iterable[str]) -> Iterator[_Event]:
    """RecBole's: a header of `name:type` fields, tabs between."""
    rows = (line.rstrip("\r\n").split("\t") for line in lines)
    header = [field.partition(":")[0] for field in next(rows, [])]
    yield from _table(_chained(header, rows), ("user_id", "item_id", "timestamp"))


def _separated_by(separator: str) -> Callable[[Iterable[str]], Iterator[_Event]]:
    """MovieLens' forms without a header: user, item, rating, time in seconds."""

    def read(lines: Iterable[str]) -> Iterator[_Event]:
        rows = (line.rstrip("\r\n").split(separator) for line in lines)
        yield from _table(_chained(["user", "item", "rating", "time"], rows), ("user", "item", "time"))

    return read


def _chained(header: list[str], rows: Iterator[list[str]]) -> Iterator[list[str]]:
    yield header
    yield from rows


def _table(rows: Iterator[list[str]], columns: tuple[str, str, str]) -> Iterator[_Event]:
    header = next(rows, [])
    missing = [name for name in columns if name not in header]
    if missing:
        raise ValueError(f"it has no column {missing[0]}")
    user, item, time = (header.index(name) for name in columns)
    for number, row in enumerate(rows, start=2):
        if not any(row):
            continue
        if len(row) != len(header):
            raise ValueError(f"entry {number} has {len(row)} fields, not {len(header)}")
        yield row[user], row[item], round(float(row[time]) * _SECOND)


_FORMS: Final[dict[str, Callable[[Iterable[str]], Iterator[_Event]]]] = {
    ".txt": _text,
    ".csv": _comma_separated,
    ".inter": _atomic,
    ".dat": _separated_by("::"),
    ".data": _separated_by("\t"),
}
