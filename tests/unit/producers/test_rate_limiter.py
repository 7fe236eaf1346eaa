"""The rate is kept, however late a sleep returns."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from producers.rate_limiter import RateLimiter


class Clock:
    """A clock that sleeping moves; each sleep takes `late` seconds more than asked for."""

    def __init__(self, late: float = 0.0) -> None:
        self.now = 1000.0
        self.late = late

    def __call__(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds + self.late


@given(st.floats(0.5, 5_000), st.floats(0, 0.05))
def test_the_rate_is_kept_however_late_each_sleep_returns(rate: float, late: float) -> None:
    """Turn n comes no earlier than n / rate, and lateness does not add up."""
    clock = Clock(late)
    pace = RateLimiter(rate, clock=clock, sleep=clock.sleep)
    for turn in range(200):
        assert pace.wait()
        passed = clock.now - 1000.0
        assert passed >= turn / rate - 1e-6
        assert passed <= turn / rate + late + 1e-6


def test_turns_missed_in_a_hold_up_follow_at_once() -> None:
    """After a pause of a second at 10 a second, ten turns are due and come without a sleep."""
    clock = Clock()
    pace = RateLimiter(10, clock=clock, sleep=clock.sleep)
    pace.wait()
    clock.now += 1.0
    for _ in range(10):
        pace.wait()
    assert clock.now == pytest.approx(1001.0)


def test_waiting_ends_when_it_is_told_to() -> None:
    """A wish to stop is heard within a tenth of a second, however long the wait."""
    clock = Clock()
    pace = RateLimiter(0.01, clock=clock, sleep=clock.sleep)
    pace.wait()
    assert not pace.wait(lambda: clock.now < 1000.25)
    assert clock.now < 1000.5


@pytest.mark.parametrize("rate", [0, -1, float("nan")])
def test_a_rate_must_be_positive(rate: float) -> None:
    """No rate, no pace."""
    with pytest.raises(ValueError, match="above 0"):
        RateLimiter(rate)
