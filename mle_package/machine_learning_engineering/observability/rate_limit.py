"""Rate limit for repeated service log messages."""

import logging
import threading
import time
from typing import Any

RATE_LIMITED = {"rate_limited": True}
"""The `extra` of a line that may come many times a second, as while a broker is away: the first few are written."""


FIELDS = "inflight_fields"


class RateLimitFilter(logging.Filter):
    """Of lines that may repeat, lets the first `MAX_LINES` from one place in the code pass in `SECONDS`; counts the others.

    A model that raises for every request would otherwise write a traceback for each. The next line that passes has the
    number of those that did not.
    """

    MAX_LINES = 10
    SECONDS = 10.0

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._seen: dict[tuple[Any, ...], list[float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written. (In any thread.)"""
        if not hasattr(record, "rate_limited"):
            return True
        error = record.exc_info[0] if record.exc_info else None
        place = (record.pathname, record.lineno, error, event_fields(record).get("inflight.model"))
        with self._lock:
            if len(self._seen) > 1_000:
                self._seen.clear()
            # When the window began, lines written in it, and lines withheld since the last one that was written.
            found = self._seen.setdefault(place, [time.monotonic(), 0, 0])
            if time.monotonic() - found[0] > self.SECONDS:
                found[0], found[1] = time.monotonic(), 0
            found[1] += 1
            if found[1] > self.MAX_LINES:
                found[2] += 1
                return False
            withheld, found[2] = int(found[2]), 0
        if withheld:
            setattr(record, FIELDS, {**event_fields(record), "inflight.lines_withheld": withheld})
        return True


def event_fields(record: logging.LogRecord) -> dict[str, Any]:
    found: dict[str, Any] = getattr(record, FIELDS, {})
    return found
