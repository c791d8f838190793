"""Trainings at the times of a cron expression, each in a process of its own: memory and faults end with it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence

import structlog
from apscheduler.triggers.cron import CronTrigger

from recstream.ops.clock import to_rfc3339, utc_now
from trainer.refusal import TrainingRefused

log = structlog.get_logger()

_PATIENCE_SECONDS = 1.0
"""How often a stop is looked for while a training runs."""


def parse_schedule(expression: str) -> CronTrigger:
    """Return the trigger of five cron fields, in the machine's time zone. Raises TrainingRefused."""
    try:
        return CronTrigger.from_crontab(expression)
    except ValueError as error:
        raise TrainingRefused(
            f"The schedule must be a cron expression of five fields, such as `0 3 * * *`, not {expression!r}: {error}."
        ) from error


def train_on_schedule(trigger: CronTrigger, options: Sequence[str], stop: threading.Event) -> None:
    """Start a training at each of the trigger's times until `stop` is set; then interrupt the one that runs.

    A time that comes while a training still runs here is passed over; replicas exclude one another by the training
    lock, and the loser's process says so.
    """
    while not stop.is_set():
        next_at = trigger.get_next_fire_time(None, utc_now())
        if next_at is None:
            log.warning("schedule.exhausted")
            stop.wait()
            return
        log.info("schedule.waits", next_at=to_rfc3339(next_at))
        if stop.wait(max(0.0, (next_at - utc_now()).total_seconds())):
            return
        _train(options, stop)


def _train(options: Sequence[str], stop: threading.Event) -> None:
    environment = {name: value for name, value in os.environ.items() if name != "TRAINER_SCHEDULE"}
    # A group of its own: a Ctrl-C reaches it through here alone, once.
    command = [sys.executable, "-P", "-m", "trainer", *options]
    process = subprocess.Popen(command, env=environment, start_new_session=True)
    log.info("schedule.training.started", pid=process.pid)
    while process.poll() is None:
        if stop.wait(_PATIENCE_SECONDS):
            process.send_signal(signal.SIGTERM)
            process.wait()
    log.info("schedule.training.ended", status=process.returncode)
