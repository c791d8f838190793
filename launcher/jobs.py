"""Programs that run once during a start: migrations, topics, demo data, the first training."""

import os
import subprocess
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from launcher.errors import Interrupted, LauncherError, tail
from launcher.layout import CHECKOUT
from launcher.service import describe_exit, kill_group

_LOOK_S = 0.1
_GRACE_S = 15.0


@dataclass(frozen=True)
class Job:
    """A program, by the name that its log file has too."""

    name: str
    command: tuple[str, ...]
    env: Mapping[str, str]
    log: Path


def run_job(
    job: Job,
    stop: threading.Event,
    started: Callable[[int], None] = lambda pid: None,
    detail: Callable[[str], None] = lambda line: None,
) -> None:
    """Run a program to its end.

    Args:
        job: what to run; its output is appended to its log.
        stop: once set, the program is ended.
        started: called with the process id.
        detail: called with the last line that the program has written, as it changes.

    Raises:
        LauncherError: with the log named, where it fails.
        Interrupted: where it was ended because `stop` was set.
    """
    job.log.parent.mkdir(parents=True, exist_ok=True)
    with job.log.open("ab") as log:
        process = subprocess.Popen(
            job.command, env=dict(job.env), cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=log,
            stderr=subprocess.STDOUT, start_new_session=True,
        )  # fmt: skip
    started(process.pid)
    begin = job.log.stat().st_size if job.log.exists() else 0
    while process.poll() is None:
        if stop.is_set():
            _end(process)
            raise Interrupted
        if job.log.stat().st_size != begin:
            detail(last_line(job.log))
        time.sleep(_LOOK_S)
    detail(last_line(job.log))
    if process.returncode != 0:
        raise LauncherError(f"{job.name} {describe_exit(process.returncode)}.", job.log)


def last_line(log: Path) -> str:
    """Return the last line of a log that says something, as it stands after any carriage return."""
    for line in reversed(tail(log, 3)):
        if text := line.rsplit("\r", 1)[-1].strip():
            return text
    return ""


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(_GRACE_S)
    except subprocess.TimeoutExpired:
        kill_group(os.getpgid(process.pid))
        process.wait()
