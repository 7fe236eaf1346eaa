"""The breaker: stops a worker whose requests suddenly fail, before it answers a day's traffic with failures."""

from collections import deque


class BreakerOpenError(RuntimeError):
    """Too many of the last requests failed or became dead letters."""


class Breaker:
    """Watches the share of failed requests and dead letters among the last `requests` ones.

    Args:
        max_failure_ratio: the largest share that is tolerated; None if any is.
        requests: a share of fewer requests says nothing.
    """

    def __init__(self, max_failure_ratio: float | None, requests: int) -> None:
        self._max = max_failure_ratio
        self._requests = requests
        self._batches: deque[tuple[int, int]] = deque()
        self._seen = self._failed = 0

    def check(self, seen: int, failed: int) -> None:
        """Add requests that were scored and are not published yet.

        Raises:
            BreakerOpenError: too many failed. The outputs must not be published.
        """
        if self._max is None or not seen:
            return
        self._batches.append((seen, failed))
        self._seen += seen
        self._failed += failed
        while self._seen - self._batches[0][0] >= self._requests:
            seen, failed = self._batches.popleft()
            self._seen -= seen
            self._failed -= failed
        if self._seen >= self._requests and self._failed > self._max * self._seen:
            raise BreakerOpenError(
                f"{self._failed} of the last {self._seen} requests failed or became dead letters, more than "
                f"INFLIGHT_WORKER_MAX_FAILURE_RATIO, {self._max:g}: check the last deployment and the producers"
            )
