"""Programs that run once during a start."""

import os
import sys
import threading
from pathlib import Path

import pytest

from launcher.errors import Interrupted, LauncherError
from launcher.jobs import Job, last_line, run_job


def job(folder: Path, code: str) -> Job:
    return Job("seeder", (sys.executable, "-c", code), os.environ, folder / "seeder.log")


def test_a_job_reports_its_process_and_its_last_line(tmp_path: Path) -> None:
    started: list[int] = []
    details: list[str] = []
    run_job(job(tmp_path, "print('reading'); print('100 users')"), threading.Event(), started.append, details.append)
    assert len(started) == 1
    assert details[-1] == "100 users"


def test_a_failure_names_the_program_and_its_log(tmp_path: Path) -> None:
    with pytest.raises(LauncherError, match="seeder exited with code 1") as raised:
        run_job(job(tmp_path, "import sys; sys.exit('There is no database.')"), threading.Event())
    assert raised.value.log == tmp_path / "seeder.log"
    assert "There is no database." in (tmp_path / "seeder.log").read_text()


def test_a_job_ends_when_stopping_is_asked_for(tmp_path: Path) -> None:
    stop = threading.Event()
    with pytest.raises(Interrupted):
        run_job(job(tmp_path, "import time; time.sleep(120)"), stop, started=lambda pid: stop.set())


def test_a_progress_bar_counts_as_it_stands_last(tmp_path: Path) -> None:
    log = tmp_path / "trainer.log"
    log.write_text("epoch 1\r  epoch 2\n\n")
    assert last_line(log) == "epoch 2"
    assert last_line(tmp_path / "missing.log") == ""
