"""Programs from the system's package manager: found, installed where that may be, and otherwise named."""

import os
from pathlib import Path

import pytest

from launcher import system_packages
from launcher.system_packages import SystemPackage, install_missing

_HERE = SystemPackage("shell", ("sh",), "nothing")
_MISSING = SystemPackage("missing", ("recstream-no-such-program",), "nothing")


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the only folder on the path, with an apt-get that installs what it is told as an empty program."""
    apt_get = tmp_path / "apt-get"
    apt_get.write_text(
        f'#!/bin/sh\n/bin/echo "$@" >> {tmp_path}/calls\nfor name; do :; done\n'
        f"case $name in recstream-*) /bin/echo > {tmp_path}/$name; /bin/chmod +x {tmp_path}/$name;; esac\n"
    )
    apt_get.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def test_what_is_there_is_left_alone() -> None:
    assert install_missing((_HERE,)) == []


def test_root_installs_what_is_missing(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    package = SystemPackage("recstream-tool", ("recstream-tool",), "nothing")
    assert install_missing((package,)) == []
    assert "install --yes --no-install-recommends recstream-tool" in (programs / "calls").read_text()


def test_a_failed_installation_is_told(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    [(package, reason)] = install_missing((_MISSING,))
    assert package is _MISSING
    assert reason.startswith("apt-get install missing ended with code")


def test_others_are_told_what_to_do(programs: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert install_missing((_MISSING,)) == [(_MISSING, "only root may install it: apt-get install missing")]
    assert not (programs / "calls").exists()


def test_without_apt_get_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert install_missing((_MISSING,)) == [(_MISSING, "there is no apt-get here")]


def test_no_server_is_started_on_a_users_machine(
    programs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(system_packages, "Path", lambda _: tmp_path)
    package = SystemPackage("missing", ("recstream-no-such-program",), "nothing", starts_service=True)
    [(_, reason)] = install_missing((package,))
    assert "would start a server of its own" in reason
