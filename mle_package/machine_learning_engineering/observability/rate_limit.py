"""Rate limit for repeated service log messages."""

import logging
import threading
import time
from typing import Any

RATE_LIMITED = {"rate_limited": True}
"""The `extra` of a message that may occur many times a second, as while a model raises for every request."""
ONCE_A_MINUTE = {"rate_limited": (1, 60.0)}
"""`extra` of a message that says the same each time, as while no broker responds: lines, and in how many seconds."""
FIELDS = "inflight_fields"
"""Attribute of a log record that holds its ECS fields."""


class RateLimitFilter(logging.Filter):
    """Pass the first `MAX_LINES` rate-limited messages from one line of code in `SECONDS`, and count the others.

    A message may bring other limits, see `ONCE_A_MINUTE`.

    A model that raises for every request would otherwise write a traceback for each. The next message that passes
    carries the number of those that were withheld.
    """

    MAX_LINES = 10
    SECONDS = 10.0

    def __init__(self) -> None:
        super().__init__()
        self._lock = threading.Lock()
        self._seen: dict[tuple[Any, ...], list[float]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Tell whether to write the record. Thread-safe."""
        limit = getattr(record, "rate_limited", None)
        if limit is None:
            return True
        lines, seconds = limit if isinstance(limit, tuple) else (self.MAX_LINES, self.SECONDS)
        error = record.exc_info[0] if record.exc_info else None
        source = (record.pathname, record.lineno, error, event_fields(record).get("inflight.model.name"))
        with self._lock:
            if len(self._seen) > 1_000:
                self._seen.clear()
            # Start of the window, messages in it, and messages withheld since the last one that passed.
            found = self._seen.setdefault(source, [time.monotonic(), 0, 0])
            if time.monotonic() - found[0] > seconds:
                found[0], found[1] = time.monotonic(), 0
            found[1] += 1
            if found[1] > lines:
                found[2] += 1
                return False
            withheld, found[2] = int(found[2]), 0
        if withheld:
            setattr(record, FIELDS, {**event_fields(record), "inflight.lines_withheld": withheld})
        return True


def event_fields(record: logging.LogRecord) -> dict[str, Any]:
    """Return the ECS fields of a log record."""
    found: dict[str, Any] = getattr(record, FIELDS, {})
    return found
