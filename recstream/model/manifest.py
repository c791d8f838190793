"""What a bundle holds, and the digests that make it one thing."""

import re
from datetime import datetime
from typing import Annotated, Final, Literal

import msgspec

FORMAT: Final = 1
"""Of the bundles this code writes, and the only one it reads."""

MANIFEST: Final = "manifest.json"
WEIGHTS: Final = "weights.safetensors"
CONFIG: Final = "config.json"
VOCABULARY: Final = "vocabulary.json"
POPULARITY: Final = "popularity.json"
DRIFT_REFERENCE: Final = "drift_reference.json"
"""Optional: bundles of earlier releases and those of popularity have none."""

BundleKind = Literal["sasrec", "popularity"]

REQUIRED_FILES: Final[dict[BundleKind, frozenset[str]]] = {
    "sasrec": frozenset({WEIGHTS, CONFIG, VOCABULARY, POPULARITY}),
    "popularity": frozenset({POPULARITY}),
}

_FileName = Annotated[str, msgspec.Meta(pattern=r"\A[a-z0-9][a-z0-9_.-]{0,63}\Z")]
_Digest = Annotated[str, msgspec.Meta(pattern=r"\A[0-9a-f]{64}\Z")]
_Count = Annotated[int, msgspec.Meta(ge=0)]

FOLDER_NAME: Final = re.compile(r"(sasrec|popularity)-\d{8}T\d{6}Z-[0-9a-f]{8}", re.ASCII)
"""A bundle's folder and version: kind, time in UTC, start of the manifest's digest."""


class BundleRejected(ValueError):
    """A bundle that must not be served; the text is one sentence saying why."""


class DataWindow(msgspec.Struct, frozen=True, kw_only=True):
    """The interactions a bundle was made from. The times are None where there were none."""

    first_at: datetime | None
    last_at: datetime | None
    interactions: _Count
    users: _Count
    items: _Count


class Manifest(msgspec.Struct, frozen=True, kw_only=True):
    """The bundle's table of contents, itself named by its SHA-256 in `ml_models` and in announcements.

    `files` maps each file's name to its SHA-256 in hexadecimal; `parent` is the version that was live when this one
    was made.
    """

    format: int
    kind: BundleKind
    created_at: datetime
    files: dict[_FileName, _Digest]
    data: DataWindow
    parent: str | None


class _FormatOnly(msgspec.Struct):
    format: int


def encode_manifest(manifest: Manifest) -> bytes:
    """Return the manifest's JSON, the same bytes for the same manifest. Raises ValueError off the schema."""
    encoded = msgspec.json.format(msgspec.json.encode(manifest, order="sorted"), indent=2) + b"\n"
    msgspec.json.decode(encoded, type=Manifest)
    return encoded


def decode_manifest(encoded: bytes) -> Manifest:
    """Return the manifest. Raises BundleRejected where it is malformed, incomplete or of another format."""
    try:
        found = msgspec.json.decode(encoded, type=_FormatOnly).format
        if found != FORMAT:
            raise BundleRejected(f"The bundle has format {found}; this release reads format {FORMAT}.")
        manifest = msgspec.json.decode(encoded, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleRejected(f"{MANIFEST} is malformed: {error}.") from error
    missing = REQUIRED_FILES[manifest.kind] - manifest.files.keys()
    if missing:
        raise BundleRejected(f"A {manifest.kind} bundle must list {', '.join(sorted(missing))}.")
    return manifest
