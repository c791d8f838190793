"""Kafka's jars: what is locked, and that nothing else gets onto the class path."""

import hashlib
from pathlib import Path

import pytest
from jgo.env import LockedDependency
from jgo.maven import MavenContext

from launcher import jars
from launcher.errors import LauncherError


def test_every_jar_is_locked_by_hash_and_no_host_is_named() -> None:
    locked = jars.locked_jars()
    assert all(jar.sha256 and len(jar.sha256) == 64 for jar in locked)
    for environment in jars.ENVIRONMENTS:
        assert "://" not in (jars.LOCKS / f"{environment}.lock.toml").read_text()


def test_kafka_is_the_wanted_one_and_no_artifact_comes_twice() -> None:
    versions = {jar.artifactId: jar.version for jar in jars.locked_jars()}
    assert versions["kafka_2.13"] == versions["kafka-clients"] == "4.3.1"
    assert "log4j-slf4j-impl" in versions
    assert len(versions) == len(jars.locked_jars())


def test_the_users_repository_is_used(tmp_path: Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("M2_REPO", str(tmp_path / "m2"))
        assert jars.repository(tmp_path / "fallback") == tmp_path / "m2"


@pytest.mark.parametrize("home", ["", "/nonexistent"])
def test_an_account_without_a_home_gets_the_fallback(tmp_path: Path, home: str) -> None:
    assert jars.repository(tmp_path, environ={"HOME": home}) == tmp_path


@pytest.fixture
def one_jar(monkeypatch: pytest.MonkeyPatch) -> LockedDependency:
    """Lock one small file as if it were Kafka."""
    sha256 = hashlib.sha256(b"right").hexdigest()
    jar = LockedDependency("org.example", "thing", "1.0", sha256=sha256)
    monkeypatch.setattr(jars, "locked_jars", lambda: [jar])
    return jar


def serve(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    """Let jgo find the file in a Maven repository that is a folder."""
    folder = tmp_path / "remote" / "org" / "example" / "thing" / "1.0"
    folder.mkdir(parents=True)
    (folder / "thing-1.0.jar").write_bytes(content)

    def with_folder(repo_cache: Path, remote_repos: dict[str, str], timeout: int) -> MavenContext:
        copy = repo_cache / "org" / "example" / "thing" / "1.0"
        copy.mkdir(parents=True)
        (copy / "thing-1.0.jar").write_bytes((folder / "thing-1.0.jar").read_bytes())
        return MavenContext(repo_cache=repo_cache, remote_repos={}, timeout=timeout)

    monkeypatch.setattr(jars, "MavenContext", with_folder)


def test_a_damaged_jar_is_replaced(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, one_jar: LockedDependency) -> None:
    serve(monkeypatch, tmp_path, b"right")
    repo = tmp_path / "repo"
    damaged = repo / "org" / "example" / "thing" / "1.0" / "thing-1.0.jar"
    damaged.parent.mkdir(parents=True)
    damaged.write_bytes(b"half")
    seen: list[tuple[int, int]] = []
    assert jars.fetch(repo, lambda done, total: seen.append((done, total))) == [damaged]
    assert damaged.read_bytes() == b"right"
    assert seen == [(0, 1), (1, 1)]
    assert [path.name for path in repo.iterdir()] == ["org"]


def test_a_jar_with_another_hash_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, one_jar: LockedDependency
) -> None:
    serve(monkeypatch, tmp_path, b"forged")
    with pytest.raises(LauncherError, match="SHA-256 differs"):
        jars.fetch(tmp_path / "repo")
    assert not list((tmp_path / "repo").rglob("*.jar"))
