"""Ctrl-C: the first request sets a flag, the second one raises."""

import os
import signal

import pytest

from producers.replay import _until_stopped
from producers.stop_signal import StopSignal, stop_on_signals


def test_the_first_wish_is_noted_and_the_second_raises() -> None:
    """Nothing is broken off in the middle, unless the user insists."""
    stop_signal = StopSignal()
    stop_signal.request()
    assert stop_signal.requested
    with pytest.raises(KeyboardInterrupt):
        stop_signal.request()


def test_waiting_for_input_is_broken_off_at_once() -> None:
    """A pipe that stays silent must not keep us."""
    stop_signal = StopSignal()

    def silent_pipe():  # type: ignore[no-untyped-def]
        yield 1
        stop_signal.request()
        raise AssertionError("not reached")

    assert list(_until_stopped(silent_pipe(), stop_signal)) == [1]
    assert stop_signal.requested
    assert not stop_signal.reading


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_become_interruptions_and_handlers_are_put_back(number: int) -> None:
    """Within only; the handlers of before return."""
    before = signal.getsignal(number)
    with stop_on_signals() as stop_signal:
        os.kill(os.getpid(), number)
        assert stop_signal.requested
    assert signal.getsignal(number) is before
