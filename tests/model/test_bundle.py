import hashlib
import json
import os
import pickle
import signal
import stat
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path

import pytest

from recstream.model import bundle as bundle_module
from recstream.model.bundle import Bundle, BundleReference, open_bundle, write_bundle
from recstream.model.drift import DriftReference, Histogram
from recstream.model.manifest import FOLDER_NAME, BundleRejected, DataWindow
from recstream.model.popularity import Popularity

CREATED = datetime(2026, 1, 31, 9, 30, 15, 250_000, tzinfo=UTC)
WINDOW = DataWindow(first_at=CREATED, last_at=CREATED, interactions=3, users=2, items=2)
FILES = {"popularity.json": Popularity(["b", "a"], [0.75, 0.25]).to_json()}


def write(checkpoints: Path, **changes: object) -> BundleReference:
    arguments = {"kind": "popularity", "created_at": CREATED, "data": WINDOW, "parent": None, "files": FILES}
    return write_bundle(checkpoints, **{**arguments, **changes})  # type: ignore[arg-type]


def names(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def test_a_bundle_comes_back_as_written(tmp_path: Path) -> None:
    reference = write(tmp_path, parent="sasrec-20260101T000000Z-00000000")
    bundle = open_bundle(tmp_path, reference.folder, reference.manifest_sha256)
    assert reference.version == reference.folder == bundle.version
    assert reference.version == f"popularity-20260131T093015Z-{reference.manifest_sha256[:8]}"
    assert bundle.manifest.created_at == CREATED
    assert bundle.manifest.data == WINDOW
    assert bundle.manifest.parent == "sasrec-20260101T000000Z-00000000"
    assert bundle.popularity().top(2) == [("b", 0.75), ("a", 0.25)]
    manifest = (tmp_path / reference.folder / "manifest.json").read_bytes()
    assert hashlib.sha256(manifest).hexdigest() == reference.manifest_sha256


def test_a_drift_reference_is_optional_and_must_be_whole(tmp_path: Path) -> None:
    def written(files: dict[str, bytes]) -> Bundle:
        reference = write(tmp_path, files=FILES | files)
        return open_bundle(tmp_path, reference.folder, reference.manifest_sha256)

    assert written({}).drift_reference() is None
    drift = DriftReference(history_length=Histogram([3.0], [1, 2]), score=Histogram([], [3]))
    assert written({"drift_reference.json": drift.to_json()}).drift_reference() == drift
    with pytest.raises(BundleRejected, match="drift reference is malformed"):
        written({"drift_reference.json": b"{}"}).drift_reference()


def test_other_users_may_read_a_bundle_whatever_the_umask(tmp_path: Path) -> None:
    previous = os.umask(0o077)
    try:
        reference = write(tmp_path)
    finally:
        os.umask(previous)
    folder = tmp_path / reference.folder
    assert stat.S_IMODE(folder.stat().st_mode) == 0o755
    assert {stat.S_IMODE(file.stat().st_mode) for file in folder.iterdir()} == {0o644}


def test_writing_the_same_bundle_twice_is_harmless(tmp_path: Path) -> None:
    assert write(tmp_path) == write(tmp_path)
    assert len(names(tmp_path)) == 1


def test_files_outside_the_manifest_do_not_matter(tmp_path: Path) -> None:
    reference = write(tmp_path)
    (tmp_path / reference.folder / "report.html").write_text("later")
    bundle = open_bundle(tmp_path, reference.folder, reference.manifest_sha256)
    with pytest.raises(BundleRejected, match="holds no report"):
        bundle.read("report.html")


@pytest.mark.parametrize(
    "folder",
    [
        "../../x",
        "..",
        "",
        "/etc",
        "popularity-20260131T093015Z-0000000",
        "popularity-20260131T093015Z-00000000/..",
        "popularity-20260131T093015Z-00000000\n",
        "popularity-20260131T093015Z-0000\x00000",
        "sasrec-20260131T093015Z-00000000",  # well-formed, but not there
    ],
)
def test_a_folder_that_is_not_a_bundle_here_is_rejected(tmp_path: Path, folder: str) -> None:
    checkpoints = tmp_path / "deep" / "checkpoints"
    reference = write(tmp_path / "x")
    checkpoints.mkdir(parents=True)
    with pytest.raises(BundleRejected):
        open_bundle(checkpoints, folder, reference.manifest_sha256)


def test_a_symbolic_link_to_a_good_bundle_is_rejected(tmp_path: Path) -> None:
    reference = write(tmp_path / "elsewhere")
    checkpoints = tmp_path / "checkpoints"
    checkpoints.mkdir()
    (checkpoints / reference.folder).symlink_to(tmp_path / "elsewhere" / reference.folder)
    with pytest.raises(BundleRejected, match="not a readable folder"):
        open_bundle(checkpoints, reference.folder, reference.manifest_sha256)


@pytest.mark.parametrize("name", ["manifest.json", "popularity.json"])
def test_a_symbolic_link_to_a_good_file_is_rejected(tmp_path: Path, name: str) -> None:
    reference = write(tmp_path)
    file = tmp_path / reference.folder / name
    file.rename(tmp_path / "moved")
    file.symlink_to(tmp_path / "moved")
    with pytest.raises(BundleRejected, match="not a readable file"):
        open_bundle(tmp_path, reference.folder, reference.manifest_sha256)


@pytest.mark.parametrize("name", ["manifest.json", "popularity.json"])
def test_a_named_pipe_is_rejected_without_waiting(tmp_path: Path, name: str) -> None:
    reference = write(tmp_path)
    file = tmp_path / reference.folder / name
    file.unlink()
    os.mkfifo(file)
    with pytest.raises(BundleRejected, match="not a regular file"):
        open_bundle(tmp_path, reference.folder, reference.manifest_sha256)


def flip_a_bit(content: bytes) -> bytes:
    return bytes([content[0] ^ 1]) + content[1:]


def truncate(content: bytes) -> bytes:
    return content[:-1]


@pytest.mark.parametrize("damage", [flip_a_bit, truncate, lambda _content: b""], ids=["bit", "truncated", "empty"])
@pytest.mark.parametrize("name", ["manifest.json", "popularity.json"])
def test_damage_is_found(tmp_path: Path, name: str, damage: object) -> None:
    reference = write(tmp_path)
    bundle = open_bundle(tmp_path, reference.folder, reference.manifest_sha256)
    file = tmp_path / reference.folder / name
    file.write_bytes(damage(file.read_bytes()))  # type: ignore[operator]
    with pytest.raises(BundleRejected, match="SHA-256"):
        open_bundle(tmp_path, reference.folder, reference.manifest_sha256)
    if name == "popularity.json":  # damaged between opening and reading
        with pytest.raises(BundleRejected, match="SHA-256"):
            bundle.popularity()


@pytest.mark.parametrize("name", ["manifest.json", "popularity.json"])
def test_a_missing_file_is_rejected(tmp_path: Path, name: str) -> None:
    reference = write(tmp_path)
    (tmp_path / reference.folder / name).unlink()
    with pytest.raises(BundleRejected, match=f"lacks {name}"):
        open_bundle(tmp_path, reference.folder, reference.manifest_sha256)


def forge(checkpoints: Path, **changes: object) -> tuple[str, str]:
    """Write a bundle whose manifest is changed and whose digest and name agree with the change."""
    reference = write(checkpoints)
    manifest = json.loads((checkpoints / reference.folder / "manifest.json").read_bytes()) | changes
    encoded = json.dumps(manifest).encode()
    digest = hashlib.sha256(encoded).hexdigest()
    folder = f"popularity-20260131T093015Z-{digest[:8]}"
    (checkpoints / reference.folder).rename(checkpoints / folder)
    (checkpoints / folder / "manifest.json").write_bytes(encoded)
    return folder, digest


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"format": 2}, "format 2"),
        ({"format": "1"}, "malformed"),
        ({"kind": "pickle"}, "malformed"),
        ({"kind": "sasrec"}, "must list"),
        ({"files": {}}, "must list popularity.json"),
        ({"files": {"../../etc/passwd": "0" * 64, "popularity.json": "0" * 64}}, "malformed"),
        ({"files": {"popularity.json": "0" * 63}}, "malformed"),
        ({"created_at": "2025-01-31T09:30:15Z"}, "not the name"),
        ({"data": None}, "malformed"),
    ],
)
def test_a_forged_manifest_is_rejected(tmp_path: Path, changes: dict[str, object], reason: str) -> None:
    with pytest.raises(BundleRejected, match=reason):
        open_bundle(tmp_path, *forge(tmp_path, **changes))


def test_a_forged_manifest_without_changes_is_accepted(tmp_path: Path) -> None:
    assert open_bundle(tmp_path, *forge(tmp_path)).popularity().top(1) == [("b", 0.75)]


@pytest.mark.parametrize(
    "content", [b"{}", b'{"item_ids":["a"],"scores":[]}', b'{"item_ids":["a"],"scores":[null]}', b"\xff", b"[" * 9_999]
)
def test_contents_that_are_no_popularity_list_are_rejected(tmp_path: Path, content: bytes) -> None:
    reference = write(tmp_path, files={"popularity.json": content})
    bundle = open_bundle(tmp_path, reference.folder, reference.manifest_sha256)
    with pytest.raises(BundleRejected):
        bundle.popularity()


def test_a_bundle_that_lacks_a_file_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"needs config.json, vocabulary.json, weights.safetensors"):
        write(tmp_path, kind="sasrec")
    with pytest.raises(ValueError, match="time zone"):
        write(tmp_path, created_at=CREATED.replace(tzinfo=None))
    assert names(tmp_path) == []


def test_a_full_disk_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", refuse)
    with pytest.raises(OSError, match="No space left"):
        write(tmp_path)
    assert names(tmp_path) == []


def test_a_killed_writer_leaves_a_temporary_name_that_the_next_one_removes(tmp_path: Path) -> None:
    program = f"""
import os, signal
from pathlib import Path
from recstream.model import bundle
from recstream.model.manifest import DataWindow
import datetime
bundle._fsync_folder = lambda path: os.kill(os.getpid(), signal.SIGKILL)
now = datetime.datetime.now(datetime.UTC)
window = DataWindow(first_at=None, last_at=None, interactions=0, users=0, items=0)
bundle.write_bundle(Path({str(tmp_path)!r}), kind="popularity", created_at=now, data=window, parent=None,
                    files={{"popularity.json": b"whole"}})
"""
    killed = subprocess.run([sys.executable, "-c", program], check=False)
    assert killed.returncode == -signal.SIGKILL
    (leftover,) = names(tmp_path)
    assert not FOLDER_NAME.fullmatch(leftover)
    assert (tmp_path / leftover / "manifest.json").exists()
    reference = write(tmp_path)
    assert names(tmp_path) == [reference.folder]


def test_leftovers_are_the_writers_own(tmp_path: Path) -> None:
    (tmp_path / "notes.tmp").mkdir()
    (tmp_path / ".bundle-link.tmp").symlink_to(tmp_path / "notes.tmp")
    reference = write(tmp_path)
    assert names(tmp_path) == [".bundle-link.tmp", "notes.tmp", reference.folder]


def test_a_damaged_bundle_of_the_same_name_is_not_passed_off_as_written(tmp_path: Path) -> None:
    reference = write(tmp_path)
    (tmp_path / reference.folder / "popularity.json").write_bytes(b"damaged")
    with pytest.raises(BundleRejected):
        write(tmp_path)
    assert names(tmp_path) == [reference.folder]


def test_a_pickle_is_never_loaded() -> None:
    source = Path(bundle_module.__file__).parent
    for file in source.glob("*.py"):
        assert "pickle" not in file.read_text()
        assert "torch.load(" not in file.read_text().replace("safetensors.torch.load(", "")
    assert pickle.dumps(1)  # the module is there; nothing but this line uses it
