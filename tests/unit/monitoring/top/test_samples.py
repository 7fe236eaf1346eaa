"""Rates and quantiles between scrapes, as Prometheus has them."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from monitoring.top.samples import Labels, Scrape, Series, Window, histogram_quantile, parse

URL, OTHER = "http://one/metrics", "http://two/metrics"


def series(name: str, value: float, **labels: str) -> tuple[tuple[str, Labels], float]:
    return (name, frozenset(labels.items())), value


def scrape(at: float, *found: tuple[tuple[str, Labels], float]) -> Scrape:
    return Scrape(at, dict(found))


def test_a_page_of_metrics_is_read() -> None:
    """As prometheus_client writes it, without the gauges that have no value yet."""
    registry = CollectorRegistry()
    Counter("asked", "Asked.", ["model"], registry=registry).labels("a").inc(3)
    Gauge("age", "Age.", registry=registry).set(math.nan)
    found = parse(generate_latest(registry).decode())
    assert found[series("asked_total", 0, model="a")[0]] == 3
    assert not [name for name, _ in found if name == "age"]


@pytest.mark.parametrize("text", ["<html>", "a b c d e"])
def test_another_page_is_refused(text: str) -> None:
    """Whatever listens at that port."""
    with pytest.raises(ValueError, match=r".*"):
        parse(text)


def test_a_rate_is_by_labels_and_over_all_endpoints() -> None:
    """Of two workers the rates are added."""
    window = Window(60)
    for at, first, second in ((0.0, 10, 0), (10.0, 40, 5)):
        window.add(URL, scrape(at, series("n", first, model="a", outcome="x")))
        window.add(OTHER, scrape(at + 1, series("n", second, model="a", outcome="y")))
    assert window.rates("n", "model") == {("a",): 3.5}
    assert window.rates("n", "outcome") == {("x",): 3.0, ("y",): 0.5}
    assert window.rate("n") == 3.5
    assert window.total("n") == 45
    assert window.largest("n") == 40


def test_until_there_are_two_scrapes_there_is_no_rate() -> None:
    """None, which is not the same as zero."""
    window = Window(60)
    window.add(URL, scrape(0.0, series("n", 10)))
    assert window.rate("n") is None
    window.add(URL, scrape(1.0, series("n", 10)))
    assert window.rate("n") == 0.0


def test_a_restart_counts_from_zero_and_a_new_series_too() -> None:
    """A counter that fell was restarted; a first failure was none before."""
    window = Window(60)
    for at, value in ((0.0, 100), (5.0, 110), (10.0, 4)):
        window.add(URL, scrape(at, series("n", value)))
    assert window.rate("n") == (10 + 4) / 10
    window.add(URL, scrape(20.0, series("n", 4), series("n", 6, outcome="failed")))
    assert window.rate("n") == (10 + 4 + 6) / 20


def test_the_window_moves_on() -> None:
    """What is older than it does not count, but there is always one scrape to compare with."""
    window = Window(10)
    for at, value in ((0.0, 0), (5.0, 1_000), (10.0, 1_000), (16.0, 1_060)):
        window.add(URL, scrape(at, series("n", value)))
    assert window.rate("n") == 10
    window.add(URL, scrape(116.0, series("n", 2_060)))
    assert window.rate("n") == 10


def test_buckets_without_a_bound_are_passed_over() -> None:
    """As in a page that another program has written, or half of one."""
    window = Window(60)
    bounds = ("0.5", "+Inf", "NaN", "half", "")
    for at, value in ((0.0, 0), (5.0, 10)):
        window.add(URL, scrape(at, *(series("h_bucket", value, le=bound) for bound in bounds), series("h_bucket", 7)))
    assert window.quantile(0.5, "h") == 0.25


def test_what_is_no_finite_number_is_left_out() -> None:
    """No rate and no bar could be made of it."""
    assert list(parse("a 1\nb NaN\nc +Inf\nd -Inf\n").values()) == [1.0]


def test_a_label_that_is_missing_is_empty() -> None:
    """A page of another release may name fewer."""
    window = Window(60)
    window.add(URL, scrape(0.0, series("n", 1, model="m")))
    ((labels, _),) = window.values("n")
    assert (labels["model"], labels["model_version"]) == ("m", "")


def test_an_endpoint_that_is_away_is_forgotten() -> None:
    """Its numbers would be those of another time."""
    window = Window(60)
    window.add(URL, scrape(0.0, series("n", 1)))
    window.add(URL, None)
    assert window.values("n") == []
    assert window.largest("n") is None


BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


@pytest.mark.parametrize(
    ("buckets", "q", "expected"),
    [
        ({1: 0, 2: 10, math.inf: 10}, 0.5, 1.5),
        ({1: 10, 2: 10, math.inf: 10}, 0.5, 0.5),
        ({1: 5, 2: 10, math.inf: 10}, 0.5, 1.0),
        ({1: 0, 2: 0, math.inf: 10}, 0.5, 2.0),
        ({1: 1, 2: 99, math.inf: 100}, 0.99, 2.0),
        ({-1: 5, 2: 10, math.inf: 10}, 0.1, -1),
        ({1: 0, math.inf: 0}, 0.5, None),
        ({1: 1, 2: 2}, 0.5, None),
        ({math.inf: 2}, 0.5, None),
        ({}, 0.5, None),
        # Two scrapes that are not of one moment.
        ({1: 6, 2: 5, math.inf: 10}, 0.5, 5 / 6),
    ],
)
def test_quantiles_of_known_histograms(buckets: dict[float, float], q: float, expected: float | None) -> None:
    """By hand, with Prometheus' rules for the edges."""
    assert histogram_quantile(q, buckets) == (None if expected is None else pytest.approx(expected))


@given(st.lists(st.floats(0, 59), min_size=1, max_size=60), st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_in_the_bucket_of_the_value_itself(values: list[float], q: float) -> None:
    """Within the window alone: what was observed before it does not count."""
    registry = CollectorRegistry()
    histogram = Histogram("took", "Took.", ["stage"], buckets=BOUNDS, registry=registry)
    histogram.labels("total").observe(1e-6)
    window = Window(60)

    def look(at: float) -> None:
        found: Series = parse(generate_latest(registry).decode())
        window.add(URL, Scrape(at, found))

    look(0.0)
    for value in values:
        histogram.labels("total").observe(value)
        histogram.labels("queue").observe(50)
    look(1.0)
    found = window.quantile(q, "took", stage="total")
    exact = sorted(values)[max(0, math.ceil(q * len(values)) - 1)]
    upper = min(bound for bound in BOUNDS if bound >= exact)
    lower = max((bound for bound in BOUNDS if bound < upper), default=0.0)
    assert found is not None
    assert lower - 1e-9 <= found <= upper + 1e-9
