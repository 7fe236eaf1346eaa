"""Throughput and latency over time, and their bounds."""

import random

import pytest

from producers.gateway.console.series import BUCKET_SECONDS, MAX_BUCKETS, MAX_MODELS, OTHERS, Series

NOW = 1_800_000_000.0


def test_counts_by_time_and_model() -> None:
    series = Series()
    for second in range(55):
        series.log(NOW - second, "diamonds", second % 10 != 0, (0.001, 0.002, 0.004))
    series.log(NOW - 5, "titanic", True, (0.0, 0.0, 0.1))
    series.dead_letter(NOW - 5, "titanic")
    found = series.columns(NOW + 5, 60, 12, NOW - 3_600)
    assert found["step_seconds"] == 5
    assert len(found["at"]) == 12
    assert sum(found["completed"]) + sum(found["failed"]) == 56
    assert sum(found["dead_letters"]) == 1
    part = series.total(NOW - 3_600, NOW + 5, "titanic")
    assert (part.completed, part.failed, part.dead_letters) == (1, 0, 1)
    assert series.models() == ["diamonds", "titanic"]


def test_what_was_not_watched_is_not_zero() -> None:
    found = Series().columns(NOW, 300, 60, NOW - 100)
    assert found["completed"][0] is None
    assert found["completed"][-1] == 0
    assert found["p99"][-1] is None


@pytest.mark.parametrize("share", [0.5, 0.95, 0.99])
def test_quantiles(share: float) -> None:
    """Within 2 %, for many requests; the bins alone allow 9 %."""
    chance = random.Random(1)
    series = Series()
    seconds = [chance.lognormvariate(-4, 1.2) for _ in range(20_000)]
    for one in seconds:
        series.log(NOW, "line", True, (0.0, 0.0, one))
    found = series.total(NOW - 5, NOW + 5).quantile(share)
    exact = sorted(seconds)[int(share * len(seconds))]
    assert found == pytest.approx(exact, rel=0.02)


def test_extreme_times_are_in_the_outer_bins() -> None:
    series = Series()
    for seconds in (0.0, 1e-9, 1e9):
        series.log(NOW, "line", True, (0.0, 0.0, seconds))
    cell = series.total(NOW - 5, NOW + 5)
    assert cell.quantile(0.01) is not None
    assert 100 < (cell.quantile(1.0) or 0) < 200


def test_memory_is_bounded() -> None:
    """However long it runs, whatever times and names come from the stream."""
    series = Series()
    for number in range(3 * MAX_BUCKETS):
        series.log(NOW + number * BUCKET_SECONDS, f"model-{number}", True, (0.0, 0.0, 0.01))
    assert len(series._buckets) == MAX_BUCKETS
    assert len(series.models()) <= MAX_MODELS + 1
    assert OTHERS in series.models()
    series.log(0.0, "model-1", True, (0.0, 0.0, 0.01))
    assert series.total(0, 10).predictions == 0
