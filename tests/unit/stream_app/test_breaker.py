"""The breaker: which share of failures stops a worker, and which does not."""

import pytest

from stream_app.runtime.breaker import Breaker, BreakerOpenError


def opens(breaker: Breaker, *batches: tuple[int, int]) -> int | None:
    """The index of the batch, of requests and failures, at which it opens."""
    for index, (seen, failed) in enumerate(batches):
        try:
            breaker.check(seen, failed)
        except BreakerOpenError:
            return index
    return None


def test_it_is_off_without_a_share() -> None:
    """By default every request may fail."""
    assert opens(Breaker(None, 10), *[(100, 100)] * 10) is None


@pytest.mark.parametrize(("failed", "opened"), [(5, None), (6, 0)])
def test_only_a_larger_share_opens_it(failed: int, opened: int | None) -> None:
    """The limit itself is tolerated."""
    assert opens(Breaker(0.5, 10), (10, failed)) == opened


def test_with_a_share_of_zero_the_first_failure_of_a_full_window_opens_it() -> None:
    """Nothing may fail."""
    assert opens(Breaker(0.0, 10), (9, 1), (1, 0)) == 1
    assert opens(Breaker(0.0, 10), *[(10, 0)] * 5) is None


def test_few_requests_say_nothing() -> None:
    """One failed request of one is no reason to stop."""
    assert opens(Breaker(0.5, 10), *[(1, 1)] * 9) is None
    assert opens(Breaker(0.5, 10), *[(1, 1)] * 10) == 9


def test_a_jump_counts_however_many_were_well_before() -> None:
    """Only the last requests count: a million good ones hide nothing."""
    assert opens(Breaker(0.5, 10), (1_000_000, 0), *[(1, 1)] * 20) == 10
    assert opens(Breaker(0.5, 10), *[(10, 0)] * 5, (10, 9)) == 5


def test_empty_batches_change_nothing() -> None:
    """A batch may hold none."""
    assert opens(Breaker(0.5, 10), *[(0, 0)] * 100, (10, 10)) == 100
