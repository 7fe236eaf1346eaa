"""What the rate of a case is, and when a case counts as wrong."""

import pytest

from benchmarks.throughput import Run, rate, ratios


def a_run(**changes: object) -> Run:
    found: dict[str, object] = {
        "case": "worker",
        "round": 1,
        "requests": 100,
        "answered": 100,
        "repeats": 0,
        "differing": 0,
        "cut_off": False,
        "rate": 50.0,
        "cpu_seconds_per_record": 1e-5,
        "peak_rss_bytes": 2,
        "rss_bytes": 1,
    }
    return Run(**(found | changes))


def test_rate_of_even_answers_is_theirs() -> None:
    """A thousand answers, one a millisecond, are a thousand a second, whatever share of them warms up."""
    assert rate(range(1_000)) == pytest.approx(1_000)
    assert rate(range(1_000), warm_up=0.5) == pytest.approx(1_000)


def test_the_warm_up_does_not_count() -> None:
    """A slow start leaves the rate as it is."""
    slow_start = [number * 100 for number in range(100)]
    assert rate([*slow_start, *range(10_000, 10_900)]) == pytest.approx(1_000, rel=0.01)


def test_answers_stamped_in_batches() -> None:
    """Ten batches of 100, stamped 10 ms apart: the batch in which the warm-up ends gives the start and no answers."""
    stamps = [10 * batch for batch in range(10) for _ in range(100)]
    assert rate(stamps) == pytest.approx(10_000)


def test_order_does_not_matter() -> None:
    """Partitions are read one after the other."""
    assert rate([5, 1, 3, 2, 4, 0]) == rate(range(6))


@pytest.mark.parametrize("stamps", [[], [7], [7, 7, 7]])
def test_no_span_has_no_rate(stamps: list[int]) -> None:
    """Nothing is divided by zero."""
    assert rate(stamps) == 0.0


def test_a_lost_or_differing_answer_is_wrong() -> None:
    """Missing answers are excused only where a slow case was stopped; a differing one never is."""
    assert not a_run().wrong
    assert a_run(answered=99).lost == 1
    assert a_run(answered=99).wrong
    assert not a_run(answered=99, cut_off=True).wrong
    assert a_run(differing=1, cut_off=True).wrong


def test_ratios_are_within_a_round() -> None:
    """Each case is compared with the reference of its own round; a round without the reference has no ratio."""
    runs = [
        a_run(case="bare", round=1, rate=100.0),
        a_run(case="bare", round=2, rate=50.0),
        *(a_run(case="worker", round=number, rate=50.0) for number in (1, 2, 3)),
    ]
    assert ratios(runs, "bare") == {"bare": [1.0, 1.0], "worker": [0.5, 1.0]}
