"""The commands, as far as they need no running stack: help, plain refusals, reset."""

import os
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from launcher.cli import app
from launcher.errors import LauncherError
from launcher.layout import Layout
from launcher.ports import Ports
from launcher.state import Phase, ProcessId, StackState, write_state

COMMANDS = ["up", "down", "status", "logs", "request", "worker", "env", "reset", "test"]


@pytest.fixture
def layout(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Layout:
    """Return the layout of a state folder of this test's own."""
    monkeypatch.delenv("CHECKPOINTS_DIR", raising=False)
    monkeypatch.setenv("RECSTREAM_HOME", str(tmp_path / "home"))
    return Layout.from_environment()


def run(*arguments: str, code: int = 0) -> str:
    result = CliRunner().invoke(app, arguments)
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result.output


def mark_running(layout: Layout) -> StackState:
    launcher = ProcessId.of(os.getpid())
    assert launcher is not None
    state = StackState(launcher, Phase.READY, Ports.with_offset(100, workers=1), str(layout.checkpoints), 0.0)
    write_state(layout.state_file, state)
    return state


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_examples(command: str) -> None:
    text = run(command, "--help")
    assert f"./run {command}" in text
    assert "Examples:" in text


def test_the_overview_names_every_command() -> None:
    text = run("--help")
    assert all(f"  {command} " in text for command in [*COMMANDS, "train", "evaluate", "seed", "psql"])


@pytest.mark.parametrize("command", [["env"], ["worker"], ["psql"], ["request", "user_1"]])
def test_commands_that_need_the_stack_say_so(layout: Layout, command: list[str]) -> None:
    with pytest.raises(LauncherError, match=r"^Recstream is not running\. Start it with \./run up$"):
        run(*command)


def test_status_of_nothing(layout: Layout) -> None:
    assert "Recstream is not running" in run("status", code=1)
    assert '"running": false' in run("status", "--json", code=1)


def test_status_shows_where_everything_is(layout: Layout) -> None:
    mark_running(layout)
    assert "http://127.0.0.1:8100" in run("status")


def test_a_second_up_says_that_it_runs(layout: Layout) -> None:
    mark_running(layout)
    text = run("up")
    assert "is running already" in text
    assert "http://127.0.0.1:8100" in text


def test_down_of_nothing(layout: Layout) -> None:
    assert run("down") == "Recstream is not running.\n"


def test_a_request_needs_a_user_or_a_history(layout: Layout) -> None:
    with pytest.raises(LauncherError, match=r"\./run request user_1"):
        run("request")


def test_an_unknown_log_is_answered_with_those_that_there_are(layout: Layout) -> None:
    layout.logs.mkdir(parents=True)
    layout.log("api").write_text("one\ntwo\nthree\n")
    with pytest.raises(LauncherError, match=r"There is no log of 'nope'\. There are: api"):
        run("logs", "nope")
    assert run("logs", "api", "--lines", "2") == "two\nthree\n"
    assert run("logs", "--lines", "1") == "api | three\n"


def test_reset_deletes_what_a_stack_stores_and_nothing_else(layout: Layout) -> None:
    for path in (layout.data / "kafka" / "x", layout.log("api"), layout.secrets / "p", layout.checkpoints / "v1" / "w"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("x")
    (layout.checkpoints / "README.md").write_text("kept")
    (layout.home / "foreign").write_text("kept")
    run("reset", "--yes")
    assert {path.name for path in layout.home.iterdir()} == {"foreign", "checkpoints"}
    assert [path.name for path in layout.checkpoints.iterdir()] == ["README.md"]


def test_reset_without_a_person_to_ask_deletes_nothing(layout: Layout) -> None:
    layout.data.mkdir(parents=True)
    with pytest.raises(LauncherError, match="--yes"):
        run("reset")
    assert layout.data.exists()


def test_reset_refuses_while_the_stack_runs(layout: Layout) -> None:
    layout.data.mkdir(parents=True)
    with FileLock(layout.lock_file), pytest.raises(LauncherError, match=r"\./run down"):
        run("reset", "--yes")
    assert layout.data.exists()
