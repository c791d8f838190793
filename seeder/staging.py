"""Rows into temporary tables by COPY, a block at a time."""

import gc
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain

import numpy as np
import psycopg
from psycopg.copy import QueuedLibpqWriter

from seeder.event_ids import event_ids
from seeder.fields import Remembering
from seeder.problem import SeedingProblem
from seeder.progress import Report
from seeder.records import Interactions, Item
from seeder.sources import Feed

_ITEMS_A_REPORT = 1_000

_COPY_HEADER = b"PGCOPY\n\xff\r\n\0" + bytes(8)
_COPY_TRAILER = struct.pack(">h", -1)
_FIXED_FIELDS = np.dtype(
    [
        ("fields", ">i2"),
        ("event_id_length", ">i4"), ("event_id", "V16"),
        ("weight_length", ">i4"), ("weight", ">f8"),
        ("created_at_length", ">i4"), ("created_at", ">i8"),
    ]
)  # fmt: skip
"""The beginning of a row in COPY's binary form; event type, user and item follow, each after its length."""
_POSTGRES_EPOCH_US = 946_684_800_000_000
"""timestamptz counts from 2000-01-01."""


def stage_interactions(connection: psycopg.Connection, feed: Feed[Interactions], report: Report) -> int:
    """Fill the temporary table `staged_interactions`; return the number of rows.

    Each row takes its final id from the sequence of `interactions`, so the ids follow the order of the feed. Raises
    SeedingProblem where the feed held no good row.
    """
    connection.execute(
        """
        CREATE TEMPORARY TABLE staged_interactions (
            id bigint DEFAULT nextval(pg_get_serial_sequence('interactions', 'id')),
            event_id uuid, weight double precision, created_at timestamptz,
            event_type text, user_id text COLLATE "C", item_id text COLLATE "C"
        ) ON COMMIT DROP
        """
    )
    encode = _RowEncoder()
    count = 0
    cursor = connection.cursor()
    copy_rows = """
        COPY staged_interactions (event_id, weight, created_at, event_type, user_id, item_id)
        FROM STDIN (FORMAT binary)
    """
    # A thread sends (its queue holds 128 MiB at most), so that reading goes on while PostgreSQL is at work.
    with _no_cycle_collection(), cursor.copy(copy_rows, writer=QueuedLibpqWriter(cursor)) as copy:
        copy.write(_COPY_HEADER)
        for rows in feed.rows:
            copy.write(encode(rows))
            count += len(rows)
            report(feed.position(), count)
        copy.write(_COPY_TRAILER)
    if count == 0:
        raise SeedingProblem(_nothing_good(feed))
    return count


@contextmanager
def _no_cycle_collection() -> Iterator[None]:
    """Spare the search for cycles, which takes a fifth of the time: blocks of rows are many objects and no cycles."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


class _RowEncoder:
    """Turns rows into COPY's binary form."""

    def __init__(self) -> None:
        self._texts = Remembering(_encode_text)

    def __call__(self, rows: Interactions) -> bytes:
        text_of = self._texts.__getitem__
        texts = [
            event_type + user + item
            for event_type, user, item in zip(
                map(text_of, rows.event_types), map(text_of, rows.user_ids), map(text_of, rows.item_ids), strict=True
            )
        ]
        fixed = np.empty(len(rows), dtype=_FIXED_FIELDS)
        fixed["fields"] = 6
        fixed["event_id_length"] = 16
        fixed["event_id"] = event_ids(rows, texts).view("V16")[:, 0]
        fixed["weight_length"] = 8
        fixed["weight"] = rows.weights
        fixed["created_at_length"] = 8
        fixed["created_at"] = np.asarray(rows.created_us, dtype=np.int64) - _POSTGRES_EPOCH_US
        beginnings = chain.from_iterable(struct.iter_unpack(f"{_FIXED_FIELDS.itemsize}s", fixed.tobytes()))
        return b"".join(chain.from_iterable(zip(beginnings, texts, strict=True)))


def _encode_text(text: str) -> bytes:
    content = text.encode()
    return struct.pack(">i", len(content)) + content


def stage_items(connection: psycopg.Connection, feed: Feed[Item], report: Report) -> int:
    """Fill the temporary table `staged_items`; return the number of rows. Raises as `stage_interactions` does."""
    connection.execute(
        """
        CREATE TEMPORARY TABLE staged_items (
            position bigint, item_id text COLLATE "C", title text, genres text[]
        ) ON COMMIT DROP
        """
    )
    count = 0
    with connection.cursor().copy("COPY staged_items FROM STDIN") as copy:
        for row in feed.rows:
            count += 1
            copy.write_row((count, row.item_id, row.title, list(row.genres)))
            if count % _ITEMS_A_REPORT == 0:
                report(feed.position(), count)
    if count == 0:
        raise SeedingProblem(_nothing_good(feed))
    return count


def _nothing_good(feed: Feed[Interactions] | Feed[Item]) -> str:
    if feed.rejects is None or feed.rejects.count == 0:
        return f"There are no rows in {feed.label}."
    reason, _ = feed.rejects.reasons.most_common(1)[0]
    return (
        f"None of the {feed.rejects.count:,} rows of {feed.label} could be read, most often because of: {reason}. "
        f"The lines are in {feed.rejects.path}."
    )
