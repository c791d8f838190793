"""Identifiers as they appear in messages, tables and HTTP."""

import re
import uuid

import uuid_utils

IDENTIFIER_PATTERN = r"^[!-.0-~\u00a1-\U0010ffff]{1,64}$"
"""1-64 visible characters without `/`; the pattern excludes ASCII control characters and spaces."""

_IDENTIFIER = re.compile(IDENTIFIER_PATTERN.removesuffix("$") + r"\Z")


def is_identifier(text: str) -> bool:
    """Tell whether `text` may be a user or item id: 1-64 visible characters without `/`.

    `str.isprintable` rules out what Unicode calls control, format, surrogate and separator characters, so that two
    ids that look alike by an invisible character cannot both exist.
    """
    return _IDENTIFIER.match(text) is not None and text.isprintable()


def new_request_id() -> uuid.UUID:
    """Return a UUIDv7 (RFC 9562): ordered by time, so that the table's partitions can range over it."""
    return uuid.UUID(int=uuid_utils.uuid7().int)


def request_id_key(request_id: uuid.UUID) -> bytes:
    """Return the Kafka key of a request: its canonical text, so that a tail can match results without parsing."""
    return str(request_id).encode()


def request_time_ms(request_id: uuid.UUID) -> int:
    """Return when a request was accepted, in milliseconds since the epoch: the first 48 bits of its UUIDv7."""
    return request_id.int >> 80
