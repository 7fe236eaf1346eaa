"""The quantiles of latencies."""

import math

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.latency import summary


def test_quantiles_of_a_hundred() -> None:
    """A hundred latencies of 1 to 100 ms, in any order."""
    found = summary("worker", 500, [number / 1000 for number in range(100, 0, -1)], unanswered=0)
    assert (found.requests, found.p50, found.p90, found.p99, found.maximum) == (100, 0.051, 0.091, 0.1, 0.1)


def test_an_unanswered_request_is_no_fast_one() -> None:
    """What was never answered counts as endless, so that losing requests can't improve a quantile."""
    found = summary("worker", 500, [0.001] * 98, unanswered=2)
    assert (found.requests, found.unanswered, found.p50) == (100, 2, 0.001)
    assert math.isinf(found.p99)
    assert math.isinf(found.maximum)


@given(st.lists(st.floats(0, 10), min_size=1), st.integers(0, 5))
def test_quantiles_are_in_order(seconds: list[float], unanswered: int) -> None:
    """A higher quantile is never lower."""
    found = summary("worker", 500, seconds, unanswered=unanswered)
    assert found.p50 <= found.p90 <= found.p99 <= found.p999 <= found.maximum
