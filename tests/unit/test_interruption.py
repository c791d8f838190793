"""Signals as an exception: once, with what stands then, and not in the middle of a commit."""

import signal

import pytest

from recstream.ops.interruption import Interrupted, Interruption


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_raises_with_the_shells_exit_code(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    interruption = Interruption("Nothing was done.")
    with interruption.raised(), pytest.raises(Interrupted) as caught:
        signal.raise_signal(number)
    assert (caught.value.exit_code, caught.value.sentence) == (code, "Nothing was done.")
    assert signal.getsignal(number) is before


def _rolled_back_under_signals(done: list[str]) -> None:
    try:
        signal.raise_signal(signal.SIGTERM)
    finally:
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        done.append("the rollback")


def test_further_signals_do_not_cut_the_way_out_short() -> None:
    done: list[str] = []
    with Interruption("Nothing was done.").raised(), pytest.raises(Interrupted) as caught:
        _rolled_back_under_signals(done)
    assert done == ["the rollback"]
    assert caught.value.exit_code == 143


def _committed_under_a_signal(interruption: Interruption, done: list[str]) -> None:
    with interruption.deferred():
        signal.raise_signal(signal.SIGTERM)
        done.append("the commit")
        interruption.sentence = "It is done."
    done.append("what comes after")


def test_a_commit_is_finished_first_and_what_it_changed_is_told() -> None:
    done: list[str] = []
    interruption = Interruption("Nothing was done.")
    with interruption.raised(), pytest.raises(Interrupted) as caught:
        _committed_under_a_signal(interruption, done)
    assert done == ["the commit"]
    assert caught.value.sentence == "It is done."
