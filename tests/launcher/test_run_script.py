"""The script `run`: what it installs, when it does so again, and what it says when it cannot.

A stand-in takes Python's place, so that nothing is installed: it notes how it was called.
"""

import os
import shutil
import subprocess
from pathlib import Path

import pytest

from launcher.layout import CHECKOUT

STAND_IN = """#!/bin/sh
case "$*" in
    *sys.version_info*) exit "${TOO_OLD:-0}" ;;
    *"import venv"*) exit "${NO_VENV_MODULE:-0}" ;;
    "-c import pip") exit 0 ;;
    --version) echo "Python 3.11.0"; exit 0 ;;
    "-m venv "*) echo "venv" >> "$CALLS"; mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; exit 0 ;;
    *" pip "*" install "*) echo "pip ${*##*--root-user-action=ignore }" >> "$CALLS"; exit "${PIP_FAILS:-0}" ;;
    *"-m launcher"*) echo "launcher ${*##*-m launcher}" >> "$CALLS"; echo "in $PWD"; exit 0 ;;
esac
echo "unexpected: $*" >&2
exit 9
"""


class Checkout:
    """A copy of the script with lock files, and the calls that it made."""

    def __init__(self, root: Path) -> None:
        self.root = root / "checkout of someone"
        self.calls_file = root / "calls"
        (self.root / "requirements").mkdir(parents=True)
        shutil.copy(CHECKOUT / "run", self.root)
        (self.root / "pyproject.toml").write_text("[project]\n")
        for name in ("services", "launcher", "ui", "torch", "dbt", "evaluate", "dev"):
            (self.root / "requirements" / f"{name}.lock").write_text(f"{name}==1.0 \\\n    --hash=sha256:0\n")
        self.bin = root / "bin"
        self.bin.mkdir()
        python = self.bin / "python3"
        python.write_text(STAND_IN)
        python.chmod(0o755)

    def run(self, *arguments: str, cwd: Path | None = None, **env: str) -> subprocess.CompletedProcess[str]:
        """Run the script with nothing of this process's environment but the system's tools."""
        return subprocess.run(
            [self.root / "run", *arguments],
            env={"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": "", "CALLS": str(self.calls_file), **env},
            cwd=cwd or self.root, capture_output=True, text=True, timeout=60,
        )  # fmt: skip

    def calls(self) -> list[str]:
        """Return the calls since the last look."""
        lines = self.calls_file.read_text().splitlines() if self.calls_file.exists() else []
        self.calls_file.unlink(missing_ok=True)
        return lines


@pytest.fixture
def checkout(tmp_path: Path) -> Checkout:
    return Checkout(tmp_path)


SERVICES = "pip --require-hashes -r requirements/services.lock"
LAUNCHER = "pip --require-hashes -r requirements/launcher.lock"
UI = "pip --require-hashes -r requirements/ui.lock"
DBT = "pip --require-hashes -r requirements/dbt.lock"
PROJECT = "pip --no-build-isolation --no-deps --editable ."
TORCH = "pip --require-hashes -r requirements/torch.lock"
EVALUATE = "pip --require-hashes -r requirements/evaluate.lock"
TOOLS = "pip --require-hashes -r requirements/dev.lock"


def test_up_installs_everything_once(checkout: Checkout) -> None:
    first = checkout.run("up", "--detach")
    assert first.returncode == 0, first.stderr
    assert checkout.calls() == ["venv", SERVICES, LAUNCHER, PROJECT, UI, "venv", DBT, TORCH, "launcher  up --detach"]
    assert "5-6 GB" in first.stderr
    again = checkout.run("up")
    assert checkout.calls() == ["launcher  up"]
    assert again.stderr == ""


@pytest.mark.parametrize("command", ["down", "status", "logs", "--help", "reset"])
def test_commands_that_compute_nothing_need_little(checkout: Checkout, command: str) -> None:
    checkout.run(command)
    assert not {TORCH, UI, DBT, TOOLS} & set(checkout.calls())


def test_tests_need_their_tools(checkout: Checkout) -> None:
    checkout.run("test")
    assert {EVALUATE, TOOLS} <= set(checkout.calls())


def test_evaluating_needs_torch_and_what_it_compares_with(checkout: Checkout) -> None:
    checkout.run("evaluate")
    assert checkout.calls() == ["venv", SERVICES, LAUNCHER, PROJECT, TORCH, EVALUATE, "launcher  evaluate"]


def test_a_changed_lock_is_installed_anew(checkout: Checkout) -> None:
    checkout.run("up")
    checkout.calls()
    (checkout.root / "requirements" / "services.lock").write_text("services==2.0\n")
    checkout.run("up")
    assert checkout.calls() == [SERVICES, "launcher  up"]


def test_an_installation_that_failed_does_not_count(checkout: Checkout) -> None:
    failed = checkout.run("status", PIP_FAILS="1")
    assert failed.returncode == 1
    assert "error: the installation failed" in failed.stderr
    assert checkout.calls() == ["venv", SERVICES]
    assert checkout.run("status").returncode == 0
    assert checkout.calls() == [SERVICES, LAUNCHER, PROJECT, "launcher  status"]


def test_another_index_gives_the_locked_version_of_torch(checkout: Checkout) -> None:
    checkout.run("up", RECSTREAM_TORCH_INDEX="index-of-cpu-builds")
    assert "pip --index-url index-of-cpu-builds torch==1.0" in checkout.calls()
    checkout.run("up")
    assert TORCH in checkout.calls(), "without the variable, the locked build takes the other's place"


def test_it_works_from_another_folder_and_leaves_that_to_the_launcher(checkout: Checkout, tmp_path: Path) -> None:
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    assert checkout.run("status", cwd=elsewhere).stdout == f"in {elsewhere}\n"


def test_two_at_once_install_once(checkout: Checkout) -> None:
    command = [str(checkout.root / "run"), "status"]
    env = {"PATH": f"{checkout.bin}:/usr/bin:/bin", "CALLS": str(checkout.calls_file)}
    both = [subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert sorted(checkout.calls()) == sorted(
        ["venv", SERVICES, LAUNCHER, PROJECT, "launcher  status", "launcher  status"]
    )


def test_a_python_that_is_too_old_is_refused_with_the_remedy(checkout: Checkout) -> None:
    too_old = checkout.run("up", TOO_OLD="1", RECSTREAM_PYTHON=str(checkout.bin / "python3"))
    assert too_old.returncode == 1
    assert "is not a Python 3.11 or newer" in too_old.stderr
    assert checkout.calls() == []


def test_a_python_without_venv_is_refused_with_the_remedy(checkout: Checkout) -> None:
    result = checkout.run("up", NO_VENV_MODULE="1")
    assert result.returncode == 1
    assert "apt-get install python3-venv" in result.stderr


def test_the_script_is_executable_and_portable() -> None:
    script = CHECKOUT / "run"
    assert os.access(script, os.X_OK)
    assert script.read_text().startswith("#!/bin/sh\n")
    subprocess.run(["/bin/sh", "-n", script], check=True)
