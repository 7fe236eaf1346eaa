"""Estimates with intervals, and speed."""

import numpy as np
import pytest

from machine_learning_engineering.evaluation.estimates import (
    FitFailed,
    bootstrap_estimate,
    estimate_from_folds,
    measure,
    naming_candidate,
    rows_per_second,
)


def test_the_interval_of_folds_by_hand():
    # Mean 3, variance 2.5 over 5 folds: error = sqrt(2.5 * (1/5 + 1/4)), t(0.975, 4) = 2.776445.
    found = estimate_from_folds([{"m": float(value)} for value in (1, 2, 3, 4, 5)])["m"]
    assert found.mean == 3
    assert found.standard_error == pytest.approx(1.0606602)
    assert (found.low, found.high) == pytest.approx((3 - 2.944865, 3 + 2.944865), abs=1e-5)


def test_the_corrected_interval_covers_the_truth_about_as_often_as_it_says():
    """Independent scores are the easy case, in which the correction makes the interval wider than it must be."""
    random = np.random.default_rng(1)
    inside = 0
    for _ in range(300):
        found = estimate_from_folds([{"m": float(value)} for value in random.normal(0, 1, 5)])["m"]
        inside += found.low <= 0 <= found.high
    assert inside / 300 >= 0.95


def test_the_held_out_metrics_are_those_of_the_rows_with_an_interval_around_them(doubler):
    rows = [doubler.Features(number=float(number)) for number in range(40)]
    labels = [2.0 * number + (-1) ** number for number in range(40)]
    predictions = doubler.predict(rows)
    found = bootstrap_estimate(doubler, predictions, labels, seed=3)
    assert {name: estimate.mean for name, estimate in found.items()} == doubler.evaluate(predictions, labels)
    assert found["r2"].low < found["r2"].mean < found["r2"].high <= 1
    assert found == bootstrap_estimate(doubler, predictions, labels, seed=3)
    assert found != bootstrap_estimate(doubler, predictions, labels, seed=4)


def test_a_metric_that_is_no_number_is_refused(doubler):
    class Vague(type(doubler)):
        def evaluate(self, predictions, labels):
            return {"r2": float("nan")}

    vague = Vague()
    vague.estimator = doubler.estimator
    with pytest.raises(ValueError, match="metrics are not finite: r2"):
        measure(vague, [doubler.Features(number=1.0)], [2.0])


def test_the_primary_metric_must_be_measured(doubler):
    class Other(type(doubler)):
        primary_metric = "accuracy"

    other = Other()
    other.estimator = doubler.estimator
    with pytest.raises(ValueError, match=r"evaluate\(\) lacks the primary metric accuracy"):
        measure(other, [doubler.Features(number=1.0), doubler.Features(number=2.0)], [2.0, 4.0])


def test_speed_is_told_by_batch_size(doubler):
    found = rows_per_second(doubler, [doubler.Features(number=1.0)], seconds=0.2)
    assert list(found) == ["1", "32", "1024"]
    assert found["1024"] > found["1"] > 0


def test_what_an_estimator_raises_names_the_candidate():
    with pytest.raises(FitFailed, match="candidate forest failed: ZeroDivisionError"), naming_candidate("forest"):
        _ = 1 / 0
