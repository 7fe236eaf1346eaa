"""Stopping between two records instead of within one."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StopSignal:
    """A request to stop, usually Ctrl-C.

    The first request only sets a flag, so that no record is left half-written. While waiting for input (`reading`),
    which may never come, it raises at once. So does a second request.
    """

    def __init__(self) -> None:
        self.requested = False
        self.reading = False

    def request(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Request a stop; usable as a signal handler.

        Raises:
            KeyboardInterrupt: while reading, and on the second call.
        """
        again, self.requested = self.requested, True
        if self.reading or again:
            raise KeyboardInterrupt


@contextmanager
def stop_on_signals() -> Iterator[StopSignal]:
    """Turn SIGINT and SIGTERM into a `StopSignal` within the context. Main thread only."""
    stop_signal = StopSignal()
    before: dict[int, Any] = {
        number: signal.signal(number, stop_signal.request) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield stop_signal
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
