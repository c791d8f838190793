"""Which records of `inference.results` count: one reading for row, waiters and workers alike.

Whoever follows the topic must agree on what ends a request. A record that one of them would pass over and another
would take could otherwise end the request differently for each.
"""

import msgspec
from confluent_kafka import Message

from recstream.kafka.records import headers_of
from recstream.messages.codec import BadMessage, Reason, decode
from recstream.messages.envelope import check_event_type
from recstream.messages.identifiers import request_id_key
from recstream.messages.inference import InferenceResult

_ESCAPED_NUL = b"\\u0000"


def read_result(record: Message) -> InferenceResult:
    """Return the result in a record of `inference.results`.

    Raises:
        BadMessage: not a result, under another key than its request's id (the order of a key's records decides, and
            only within its partition), or with a NUL, which PostgreSQL cannot store.
    """
    check_event_type(headers_of(record), InferenceResult)
    value = record.value()
    result = decode(value, InferenceResult)
    if record.key() != request_id_key(result.request_id):
        raise BadMessage(Reason.MALFORMED, "the key is not the request's id")
    assert value is not None
    if _ESCAPED_NUL in value and _holds_nul(msgspec.json.decode(value)):
        raise BadMessage(Reason.MALFORMED, "a text holds NUL")
    return result


def _holds_nul(part: object) -> bool:
    match part:
        case str():
            return "\x00" in part
        case list():
            return any(_holds_nul(element) for element in part)
        case dict():
            return any(_holds_nul(element) for pair in part.items() for element in pair)
        case _:
            return False
