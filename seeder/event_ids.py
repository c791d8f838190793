"""Ids of imported events: the same content has the same id, so importing it again adds nothing."""

from collections.abc import Iterable
from hashlib import blake2b
from struct import iter_unpack

import numpy as np
from numpy.typing import NDArray

from seeder.records import Interactions


def event_ids(rows: Interactions, texts: Iterable[bytes]) -> NDArray[np.uint8]:
    """Return a UUIDv8 (RFC 9562, section 5.8) a row, shape (rows, 16): its time, and a digest of all its content.

    Laid out as a UUIDv7 is: 48 bits of milliseconds since 1970 (0 for earlier times), then 74 bits of BLAKE2b. With
    the time first, the rows of one period lie together in the index. Neither the file's name nor the line's number is
    in it: a file that was renamed, mended or continued is recognised. Rows that are identical in one file are told
    apart by number while loading (see `seeder.loading`).

    Args:
        rows: The rows.
        texts: Of each row the event type, user id and item id, unambiguously joined.
    """
    numbers = np.empty(len(rows), dtype=[("weight", ">f8"), ("created_us", ">i8")])
    numbers["weight"] = rows.weights
    numbers["created_us"] = rows.created_us
    digests = [
        blake2b(text + number, digest_size=16).digest()
        for text, (number,) in zip(texts, iter_unpack("16s", numbers.tobytes()), strict=True)
    ]
    ids = np.frombuffer(b"".join(digests), dtype=np.uint8).reshape(-1, 16).copy()
    milliseconds = np.maximum(numbers["created_us"].astype(np.int64), 0) // 1000
    ids[:, :6] = milliseconds.astype(">i8").view(np.uint8).reshape(-1, 8)[:, 2:]
    ids[:, 6] = ids[:, 6] & 0x0F | 0x80  # version 8
    ids[:, 8] = ids[:, 8] & 0x3F | 0x80  # variant
    return ids
