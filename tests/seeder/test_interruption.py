import signal

import pytest

from seeder.interruption import Interrupted, Interruption


def _commit_under_a_signal(interruption: Interruption, number: signal.Signals, done: list[str]) -> None:
    with interruption.raised():
        with interruption.deferred():
            signal.raise_signal(number)
            done.append("the commit")
        done.append("what comes after")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_raises_with_the_shells_exit_code(number: signal.Signals, code: int) -> None:
    before = signal.getsignal(number)
    interruption = Interruption()
    with interruption.raised(), pytest.raises(Interrupted) as caught:
        signal.raise_signal(number)
    assert caught.value.exit_code == code
    assert signal.getsignal(number) is before


def test_a_commit_is_finished_first() -> None:
    done: list[str] = []
    with pytest.raises(Interrupted):
        _commit_under_a_signal(Interruption(), signal.SIGTERM, done)
    assert done == ["the commit"]
