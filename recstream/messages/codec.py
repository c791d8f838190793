"""Bytes to messages and back. Any bytes give a message or BadMessage, never another exception."""

from enum import StrEnum
from typing import TypeVar

import msgspec
from msgspec import Struct

from recstream.messages.activity import InteractionRecorded
from recstream.messages.control import ModelAnnounced, WorkerStatus
from recstream.messages.inference import InferenceRequested, InferenceResult

M = TypeVar("M", bound=Struct)

# msgspec decodes and validates in one pass, 1.2 us a message against pydantic's 11 (docs/adr/0003).
_encoder = msgspec.json.Encoder()
_decoders: dict[type[Struct], msgspec.json.Decoder[Struct]] = {
    kind: msgspec.json.Decoder(kind)
    for kind in (InferenceRequested, InferenceResult, InteractionRecorded, ModelAnnounced, WorkerStatus)
}


class Reason(StrEnum):
    """Why a record was set aside; a metric's label and a dead letter's header."""

    EMPTY = "empty"
    MALFORMED = "malformed"
    UNKNOWN_TYPE = "unknown_type"
    MODEL_ERROR = "model_error"
    UNKNOWN_REQUEST = "unknown_request"
    CRASH = "crash"


class BadMessage(ValueError):
    """A record that cannot be understood; `reason` says in one word why, the text in a sentence."""

    def __init__(self, reason: Reason, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason


def encode(message: Struct) -> bytes:
    """Return compact JSON. A float that is not finite would become null: producers check before."""
    return _encoder.encode(message)


def decode(value: bytes | None, kind: type[M]) -> M:
    """Return the message in `value`.

    Raises:
        BadMessage: empty, not JSON, or not of the kind's shape.
    """
    if value is None:
        raise BadMessage(Reason.EMPTY, "the record has no value")
    try:
        message = _decoders[kind].decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadMessage(Reason.MALFORMED, f"not a valid {kind.__name__}: {error}") from error
    assert isinstance(message, kind)
    return message
