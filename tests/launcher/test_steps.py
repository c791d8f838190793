"""Steps: recorded in their order, with how each ended, and shown without a terminal one line at a time."""

import io

import pytest
from rich.console import Console

from launcher.errors import Interrupted
from launcher.steps import StepDisplay, Steps, StepStatus


def test_steps_are_recorded_with_how_they_ended() -> None:
    changes: list[int] = []
    steps = Steps(lambda: changes.append(1))
    with steps.step("Kafka") as detail:
        detail("fetching jars: 1 of 46")
        assert [(step.status, step.detail) for step in steps.all()] == [(StepStatus.RUNNING, "fetching jars: 1 of 46")]
    with pytest.raises(ZeroDivisionError), steps.step("PostgreSQL"):
        raise ZeroDivisionError
    with pytest.raises(Interrupted), steps.step("Demo data"):
        raise Interrupted
    assert [(step.title, step.status) for step in steps.all()] == [
        ("Kafka", StepStatus.DONE),
        ("PostgreSQL", StepStatus.FAILED),
        ("Demo data", StepStatus.INTERRUPTED),
    ]
    assert all(step.seconds is not None for step in steps.all())
    assert len(changes) == 7


def test_without_a_terminal_each_finished_step_is_one_line() -> None:
    out = io.StringIO()
    display = StepDisplay(Console(file=out, width=80))
    steps = Steps(lambda: display.update(steps.all()))
    with display:
        with steps.step("Kafka"):
            assert out.getvalue() == ""
        with steps.step("Demo data") as detail:
            detail("100 users")
    first, second = out.getvalue().splitlines()
    assert first.startswith("ok   Kafka (")
    assert second.startswith("ok   Demo data (")
    assert second.endswith("100 users")
