"""A model version on disk: a folder that appears whole or not at all, and is checked before it is used."""

import errno
import fcntl
import hashlib
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from recstream.model.drift import DriftReference
from recstream.model.manifest import (
    DRIFT_REFERENCE,
    FOLDER_NAME,
    FORMAT,
    MANIFEST,
    POPULARITY,
    REQUIRED_FILES,
    VOCABULARY,
    BundleKind,
    BundleRejected,
    DataWindow,
    Manifest,
    decode_manifest,
    encode_manifest,
)
from recstream.model.popularity import Popularity
from recstream.model.vocabulary import Vocabulary

_LARGEST_MANIFEST: Final = 1 << 20
_TEMPORARY_PREFIX: Final = ".bundle-"
_TEMPORARY_SUFFIX: Final = ".tmp"


@dataclass(frozen=True, slots=True)
class BundleReference:
    """What `ml_models` and an announcement say about a bundle; `folder` is relative to the checkpoints folder."""

    version: str
    kind: str
    folder: str
    manifest_sha256: str
    created_at: datetime


class Bundle:
    """An opened bundle. Every read is checked against the manifest, so what was hashed is what is used."""

    __slots__ = ("_path", "manifest", "version")

    def __init__(self, path: Path, version: str, manifest: Manifest) -> None:
        self._path = path
        self.version = version
        self.manifest = manifest

    def read(self, name: str) -> bytes:
        """Return a listed file's bytes. Raises BundleRejected where they are not the ones that were hashed."""
        expected = self.manifest.files.get(name)
        if expected is None:
            raise BundleRejected(f"{self.version} holds no {name}.")
        with _open_bundle_folder(self._path) as folder, _open_inside(folder, name) as file:
            content = _read(file, name)
        if hashlib.sha256(content).hexdigest() != expected:
            raise BundleRejected(f"{name} of {self.version} is damaged: its SHA-256 is not the manifest's.")
        return content

    def vocabulary(self) -> Vocabulary:
        """Return the items that the network knows. Raises BundleRejected."""
        try:
            return Vocabulary.from_json(self.read(VOCABULARY))
        except BundleRejected:
            raise
        except ValueError as error:
            raise BundleRejected(str(error)) from error

    def popularity(self) -> Popularity:
        """Return the most popular items. Raises BundleRejected."""
        try:
            return Popularity.from_json(self.read(POPULARITY))
        except BundleRejected:
            raise
        except ValueError as error:
            raise BundleRejected(str(error)) from error

    def drift_reference(self) -> DriftReference | None:
        """Return what traffic is compared with, or None where the bundle has none. Raises BundleRejected."""
        if DRIFT_REFERENCE not in self.manifest.files:
            return None
        try:
            return DriftReference.from_json(self.read(DRIFT_REFERENCE))
        except BundleRejected:
            raise
        except ValueError as error:
            raise BundleRejected(str(error)) from error


def open_bundle(checkpoints: Path, folder: str, manifest_sha256: str) -> Bundle:
    """Open `checkpoints/folder` and verify every file it lists against `manifest_sha256`, without keeping any.

    Raises BundleRejected where the name could lead elsewhere, the folder or a file is missing, a symbolic link or not
    a regular file, a digest differs, or the manifest is malformed or of an unknown format.
    """
    # The name comes from a message: only the form that `write_bundle` gives is ever joined to a path.
    if not FOLDER_NAME.fullmatch(folder):
        raise BundleRejected("The announced folder's name is not that of a bundle.")
    path = checkpoints / folder
    with _open_bundle_folder(path) as descriptor:
        with _open_inside(descriptor, MANIFEST) as file:
            if os.fstat(file).st_size > _LARGEST_MANIFEST:
                raise BundleRejected(f"{MANIFEST} of {folder} is larger than any manifest.")
            encoded = _read(file, MANIFEST)
        if hashlib.sha256(encoded).hexdigest() != manifest_sha256:
            raise BundleRejected(f"{MANIFEST} of {folder} is not the one announced: its SHA-256 differs.")
        manifest = decode_manifest(encoded)
        if folder != _version(manifest.kind, manifest.created_at, manifest_sha256):
            raise BundleRejected(f"{folder} is not the name that its manifest gives it.")
        for name, expected in manifest.files.items():
            with _open_inside(descriptor, name) as file, os.fdopen(os.dup(file), "rb") as content:
                if hashlib.file_digest(content, "sha256").hexdigest() != expected:
                    raise BundleRejected(f"{name} of {folder} is damaged: its SHA-256 is not the manifest's.")
    return Bundle(path, folder, manifest)


def write_bundle(
    checkpoints: Path,
    *,
    kind: BundleKind,
    created_at: datetime,
    data: DataWindow,
    parent: str | None,
    files: Mapping[str, bytes],
) -> BundleReference:
    """Write a bundle durably under its final name, or leave nothing under that name.

    Also removes what earlier writers left under temporary names when they died. Raises ValueError where `files` or
    `created_at` are not those of a bundle, OSError where the disk refuses.
    """
    if created_at.tzinfo is None:
        raise ValueError("A bundle's time of creation must name its time zone.")
    missing = REQUIRED_FILES[kind] - files.keys()
    if missing:
        raise ValueError(f"A {kind} bundle needs {', '.join(sorted(missing))}.")
    encoded = encode_manifest(
        Manifest(
            format=FORMAT,
            kind=kind,
            created_at=created_at.astimezone(UTC),
            files={name: hashlib.sha256(content).hexdigest() for name, content in files.items()},
            data=data,
            parent=parent,
        )
    )
    digest = hashlib.sha256(encoded).hexdigest()
    version = _version(kind, created_at, digest)
    checkpoints.mkdir(parents=True, exist_ok=True)
    with _only_writer(checkpoints) as folder:
        _remove_leftovers(checkpoints)
        temporary = Path(tempfile.mkdtemp(prefix=_TEMPORARY_PREFIX, suffix=_TEMPORARY_SUFFIX, dir=checkpoints))
        try:
            # mkdtemp's 0700 would keep a worker that runs as another user out.
            temporary.chmod(0o755)
            for name, content in {**files, MANIFEST: encoded}.items():
                _write_durably(temporary / name, content)
            _fsync_folder(temporary)
            try:
                temporary.rename(checkpoints / version)
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
                # The same second, files and parent: the very same bundle, unless it is damaged.
                open_bundle(checkpoints, version, digest)
            os.fsync(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return BundleReference(version, kind, version, digest, created_at)


def _version(kind: BundleKind, created_at: datetime, manifest_sha256: str) -> str:
    return f"{kind}-{created_at.astimezone(UTC):%Y%m%dT%H%M%SZ}-{manifest_sha256[:8]}"


@contextmanager
def _only_writer(checkpoints: Path) -> Iterator[int]:
    """Hold the folder's lock, which the kernel lets go of when its holder dies: what lies there unfinished is dead."""
    descriptor = os.open(checkpoints, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield descriptor
    finally:
        os.close(descriptor)


def _remove_leftovers(checkpoints: Path) -> None:
    for leftover in checkpoints.glob(f"{_TEMPORARY_PREFIX}*{_TEMPORARY_SUFFIX}"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)


def _write_durably(path: Path, content: bytes) -> None:
    with path.open("xb") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _fsync_folder(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def _open_bundle_folder(path: Path) -> Iterator[int]:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
    except FileNotFoundError as error:
        raise BundleRejected(f"{path.name} is not in the checkpoints folder.") from error
    except OSError as error:
        raise BundleRejected(f"{path.name} is not a readable folder of its own: {error.strerror}.") from error
    try:
        yield descriptor
    finally:
        os.close(descriptor)


@contextmanager
def _open_inside(folder: int, name: str) -> Iterator[int]:
    try:
        # O_NONBLOCK: a named pipe in place of a file must not hold the worker.
        descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=folder)
    except FileNotFoundError as error:
        raise BundleRejected(f"The bundle lacks {name}.") from error
    except OSError as error:
        raise BundleRejected(f"{name} is not a readable file of its own: {error.strerror}.") from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise BundleRejected(f"{name} is not a regular file.")
        yield descriptor
    finally:
        os.close(descriptor)


def _read(descriptor: int, name: str) -> bytes:
    try:
        with os.fdopen(os.dup(descriptor), "rb") as file:
            return file.read()
    except OSError as error:
        raise BundleRejected(f"{name} cannot be read: {error.strerror}.") from error
