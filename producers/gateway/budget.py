"""Budgets: how many rows and bytes may be in progress, altogether and for each caller."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from producers.gateway.problems import busy


class Budget:
    """Counts what is in progress. Belongs to the event loop.

    Args:
        max_rows: of all callers.
        max_rows_per_caller: of each caller.
        max_bytes: of all bodies.
    """

    def __init__(self, max_rows: int, max_rows_per_caller: int, max_bytes: int) -> None:
        self._max_rows = max_rows
        self._max_rows_per_caller = max_rows_per_caller
        self._max_bytes = max_bytes
        self._callers: Counter[str] = Counter()
        self.rows = 0
        self.bytes = 0

    @contextmanager
    def hold_rows(self, caller: str, rows: int, *, close: bool = False) -> Iterator[None]:
        """Hold so many rows within the block.

        Args:
            close: the body is not read yet, so a refusal closes the connection.

        Raises:
            Problem: the budget does not allow it: 429 of the caller, 503 of all.
        """
        if self._callers[caller] + rows > self._max_rows_per_caller:
            raise busy(
                "too-many-requests",
                f"this caller may have {self._max_rows_per_caller:,} rows in progress: wait for some of them",
                close=close,
            )
        if self.rows + rows > self._max_rows:
            raise busy("overloaded", f"{self._max_rows:,} rows are in progress: try again", close=close)
        self.rows += rows
        self._callers[caller] += rows
        try:
            yield
        finally:
            self.rows -= rows
            self._callers[caller] -= rows
            if not self._callers[caller]:
                del self._callers[caller]

    @contextmanager
    def hold_bytes(self, size: int) -> Iterator[None]:
        """Hold the memory of a body within the block.

        Raises:
            Problem: 503, the budget does not allow it.
        """
        if self.bytes + size > self._max_bytes:
            raise busy("overloaded", f"bodies of {self._max_bytes:,} bytes are in progress: try again", close=True)
        self.bytes += size
        try:
            yield
        finally:
            self.bytes -= size
