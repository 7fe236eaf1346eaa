"""Stopping between two records, and not in the middle of one."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any


class StopSignal:
    """A wish to stop, as Ctrl-C expresses it.

    The first one is only noted, so that no half-written record is left in a buffer, unless we wait for input
    (`reading`), which may never come; the second one raises at once.
    """

    def __init__(self) -> None:
        self.requested = False
        self.reading = False

    def request(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        """Ask for a stop; has the shape of a signal handler.

        Raises:
            KeyboardInterrupt: while reading, and on the second call.
        """
        again, self.requested = self.requested, True
        if self.reading or again:
            raise KeyboardInterrupt


@contextmanager
def interruptible() -> Iterator[StopSignal]:
    """Within, SIGINT and SIGTERM become an interruption. Only for the main thread."""
    interruption = StopSignal()
    before: dict[int, Any] = {
        number: signal.signal(number, interruption.request) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield interruption
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
