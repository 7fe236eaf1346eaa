"""Rate limiting against the monotonic clock."""

import time
from collections.abc import Callable

_LONGEST_SLEEP = 0.1


class RateLimiter:
    """Allows `rate` turns per second, counted from the first one.

    Turn n is due at start + n / rate, so a late turn does not delay the following ones: the average rate is kept, and
    missed turns follow at once.
    """

    def __init__(
        self,
        rate: float,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        if not rate > 0:
            raise ValueError(f"the rate must be above 0 per second, not {rate}")
        self._rate = rate
        self._clock = clock
        self._sleep = sleep
        self._turns = 0
        self._start: float | None = None

    def wait(self, meanwhile: Callable[[], bool] = lambda: True) -> bool:
        """Wait for the next turn.

        Args:
            meanwhile: called before each sleep of at most 0.1 s; returning False ends the wait.

        Returns:
            False if `meanwhile` ended the wait.
        """
        now = self._clock()
        if self._start is None:
            self._start = now
        due = self._start + self._turns / self._rate
        while now < due:
            if not meanwhile():
                return False
            self._sleep(min(due - now, _LONGEST_SLEEP))
            now = self._clock()
        self._turns += 1
        return True
