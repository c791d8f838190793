"""Everybody's histories from PostgreSQL as two arrays, never as a Python object a row."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from itertools import compress
from typing import Final

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import sql

from recstream.model.manifest import DataWindow
from recstream.ops.clock import from_us

POSITIVE_EVENTS: Final = ("view", "like", "purchase", "rating")
"""Event types that feed histories; a dismissal does not."""

_COPY_HEADER_BYTES: Final = 19
"""Signature, flags and the length of an empty extension (PostgreSQL's documentation of COPY, "Binary Format")."""
_ROW_HEADER_BYTES: Final = 26
"""Number of fields, the first array's size, its dimensions, null flag, element type, length and lower bound."""
_ARRAY_HEADER_BYTES: Final = 24
"""The second array's size, dimensions, null flag, element type, length and lower bound."""

_CODE: Final = np.dtype([("size", ">i4"), ("value", ">i4")])
_TIME: Final = np.dtype([("size", ">i4"), ("value", ">i8")])


@dataclass(frozen=True, slots=True)
class Interactions:
    """Histories of all users, one after another, each in the order of time and arrival.

    User u's item codes are `codes[offsets[u] : offsets[u + 1]]`; code c is `item_ids[c - 1]`. `times` stands beside
    `codes`, in microseconds since the Unix epoch; it is None for a file that tells the order alone. 12 bytes an
    interaction and 8 a user.
    """

    item_ids: tuple[str, ...]
    codes: npt.NDArray[np.int32]
    offsets: npt.NDArray[np.int64]
    times: npt.NDArray[np.int64] | None

    @property
    def n_items(self) -> int:
        """Items with an interaction."""
        return len(self.item_ids)

    @property
    def n_users(self) -> int:
        """Users with an interaction."""
        return len(self.offsets) - 1

    @property
    def window(self) -> DataWindow:
        """What the manifest says about the data."""
        times = self.times if self.times is not None and len(self.times) else None
        return DataWindow(
            first_at=from_us(int(times.min())) if times is not None else None,
            last_at=from_us(int(times.max())) if times is not None else None,
            interactions=len(self.codes),
            users=self.n_users,
            items=self.n_items,
        )

    def until(self, moment: int) -> "Interactions":
        """Return what is not later than `moment`, in microseconds, with the items and users that remain.

        The data must have times.
        """
        assert self.times is not None
        kept = self.times <= moment
        counts = np.add.reduceat(kept, self.offsets[:-1], dtype=np.int64) if self.n_users else np.empty(0, np.int64)
        present = np.bincount(self.codes[kept], minlength=self.n_items + 1)[1:] > 0
        recoded = np.concatenate([[0], np.cumsum(present)]).astype(np.int32)
        return Interactions(
            item_ids=tuple(compress(self.item_ids, present.tolist())),
            codes=recoded[self.codes[kept]],
            offsets=np.concatenate([[0], np.cumsum(counts[counts > 0])]).astype(np.int64),
            times=self.times[kept],
        )


def read_interactions(
    connection: psycopg.Connection, *, min_item_count: int = 1, on_progress: Callable[[int, int], None] | None = None
) -> Interactions:
    """Read all positive interactions in one snapshot; `on_progress` is told rows done and rows in all.

    Items with fewer than `min_item_count` interactions are left out, with those interactions. Raises psycopg.Error.
    """
    connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    with connection.transaction():
        _number_items(connection, min_item_count)
        summary = connection.execute("SELECT coalesce(sum(interactions), 0)::int8 FROM trainer_items").fetchone()
        assert summary is not None
        codes, times, offsets = _copy_histories(connection, summary[0], on_progress)
        item_ids = tuple(row[0] for row in connection.execute("SELECT item_id FROM trainer_items ORDER BY code"))
        connection.execute("DROP TABLE trainer_items")
    return Interactions(item_ids, codes, offsets, times)


def _number_items(connection: psycopg.Connection, min_item_count: int) -> None:
    connection.execute(
        sql.SQL(
            """
            CREATE TEMPORARY TABLE trainer_items ON COMMIT DROP AS
            SELECT item_id, (row_number() OVER (ORDER BY item_id))::int4 AS code, interactions
            FROM (
                SELECT item_id, count(*) AS interactions
                FROM interactions WHERE event_type = ANY ({events}) GROUP BY item_id HAVING count(*) >= {least}
            ) AS counted
            """
        ).format(events=sql.Literal(list(POSITIVE_EVENTS)), least=sql.Literal(min_item_count))
    )
    connection.execute("ANALYZE trainer_items")


def _copy_histories(
    connection: psycopg.Connection, total: int, on_progress: Callable[[int, int], None] | None
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Copy one row a user: the arrays of that user's codes and times.

    Arrays, because libpq hands rows over one by one: 20 million rows would be as many calls. The id breaks ties in time
    in the order of arrival, which sorting by item would not keep.
    """
    codes = np.empty(total, dtype=np.int32)
    times = np.empty(total, dtype=np.int64)
    offsets = array("q", [0])
    done = 0
    statement = sql.SQL(
        """
        COPY (
            SELECT array_agg(code ORDER BY created_at, id),
                   array_agg((extract(epoch FROM created_at) * 1000000)::int8 ORDER BY created_at, id)
            FROM interactions JOIN trainer_items USING (item_id)
            WHERE event_type = ANY ({events}) GROUP BY user_id
        ) TO STDOUT (FORMAT binary)
        """
    ).format(events=sql.Literal(list(POSITIVE_EVENTS)))
    with connection.cursor().copy(statement) as copy:
        skip = _COPY_HEADER_BYTES
        for message in copy:
            row = memoryview(message)[skip:]
            skip = 0
            if len(row) < _ROW_HEADER_BYTES:  # the trailer
                continue
            # Each element is its size (4 or 8) in four bytes and its value, all big-endian.
            length = (len(row) - _ROW_HEADER_BYTES - _ARRAY_HEADER_BYTES) // (_CODE.itemsize + _TIME.itemsize)
            after_codes = _ROW_HEADER_BYTES + length * _CODE.itemsize + _ARRAY_HEADER_BYTES
            codes[done : done + length] = np.frombuffer(row, _CODE, length, _ROW_HEADER_BYTES)["value"]
            times[done : done + length] = np.frombuffer(row, _TIME, length, after_codes)["value"]
            done += length
            offsets.append(done)
            if on_progress is not None and len(offsets) % 1024 == 0:
                on_progress(done, total)
    assert done == total, "the snapshot changed while it was read"
    return codes, times, np.frombuffer(offsets, dtype=np.int64)
