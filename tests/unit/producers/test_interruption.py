import os
import signal

import pytest

from producers.interruption import StopSignal, interruptible
from producers.replay import _interruptible


def test_the_first_wish_is_noted_and_the_second_raises() -> None:
    """Nothing is broken off in the middle, unless the user insists."""
    interruption = StopSignal()
    interruption.request()
    assert interruption.requested
    with pytest.raises(KeyboardInterrupt):
        interruption.request()


def test_waiting_for_input_is_broken_off_at_once() -> None:
    """A pipe that stays silent must not keep us."""
    interruption = StopSignal()

    def silent_pipe():  # type: ignore[no-untyped-def]
        yield 1
        interruption.request()
        raise AssertionError("not reached")

    assert list(_interruptible(silent_pipe(), interruption)) == [1]
    assert interruption.requested
    assert not interruption.reading


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_become_interruptions_and_handlers_are_put_back(number: int) -> None:
    """Within only; the handlers of before return."""
    before = signal.getsignal(number)
    with interruptible() as interruption:
        os.kill(os.getpid(), number)
        assert interruption.requested
    assert signal.getsignal(number) is before
