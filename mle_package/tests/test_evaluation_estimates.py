"""Estimates with intervals, and speed."""

import math
from collections import Counter

import numpy as np
import pytest

from machine_learning_engineering.evaluation import estimates
from machine_learning_engineering.evaluation.estimates import (
    FitFailed,
    bootstrap_estimate,
    estimate_from_folds,
    measure,
    naming_candidate,
    rows_per_second,
)
from machine_learning_engineering.evaluation.metrics import classification_metrics


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


class Accuracy:
    """A metric that any rows define."""

    name, primary_metric = "right", "accuracy"

    def evaluate(self, predictions, labels):
        return {"accuracy": float(np.mean([one == other for one, other in zip(predictions, labels, strict=True)]))}


@pytest.mark.parametrize(("groups", "size"), [(200, 1), (40, 10), (40, 7)], ids=["rows", "groups", "odd groups"])
def test_the_interval_covers_the_truth_also_where_rows_come_in_groups(groups, size, monkeypatch):
    """A group is right or wrong as a whole: its rows are one observation, not several."""
    monkeypatch.setattr(estimates, "RESAMPLES", 300)
    random = np.random.default_rng(3)
    inside, runs = 0, 100
    for run in range(runs):
        right = np.repeat(random.random(groups) < 0.8, size).tolist()
        codes = np.repeat(np.arange(groups), size).tolist()
        found = bootstrap_estimate(Accuracy(), right, [True] * len(right), run, groups=codes)["accuracy"]
        inside += found.low <= 0.8 <= found.high
    assert inside >= 85


def test_samples_are_many_and_of_whole_groups():
    seen = []

    class Spy(Accuracy):
        def evaluate(self, predictions, labels):
            seen.append(Counter(labels))
            return super().evaluate(predictions, labels)

    labels = ["a", "b", "a", "c", "c", "c"]
    bootstrap_estimate(Spy(), labels, labels, 1, groups=labels)
    assert len(seen) == 1 + 1_000
    assert all(one["a"] % 2 == 0 and one["c"] % 3 == 0 for one in seen)


def test_where_all_rows_are_one_group_there_still_is_an_interval():
    found = bootstrap_estimate(Accuracy(), [1, 0] * 20, [1] * 40, 1, groups=["one"] * 40)["accuracy"]
    assert found.low < found.mean < found.high


def test_a_sample_that_does_not_define_a_metric_is_left_out_and_counted():
    """A correlation with a constant, or a metric that raises where a class is missing."""

    class Fragile(Accuracy):
        def evaluate(self, predictions, labels):
            rare = sum(predictions)
            rate = 1 / rare if labels.count("raise") == 0 else math.nan
            return {"accuracy": 0.5, "rate": rate, "rare": 1.0 if rare else math.nan}

    predictions = [0] * 98 + [1] * 2
    found = bootstrap_estimate(Fragile(), predictions, [0] * 100, 1)
    # Without a 1, which is so in one of seven samples, the whole evaluation raises.
    assert found.keys() == {"accuracy", "rate", "rare"}
    assert 80 < found["rare"].undefined < 200
    assert all(math.isfinite(value) for one in found.values() for value in (one.low, one.high, one.standard_error))


def test_what_all_rows_do_not_define_is_left_out_and_the_rest_is_measured():
    class OneClass(Accuracy):
        def evaluate(self, predictions, labels):
            return super().evaluate(predictions, labels) | {"roc_auc": math.nan, "ratio": math.inf}

    assert bootstrap_estimate(OneClass(), [1, 0, 1], [1, 1, 1], 1).keys() == {"accuracy"}


@pytest.mark.parametrize(
    "labels", [[[1, 2], [3], [1, 2], []], [{"a": 1}, {"a": 2}, {"a": 1}, {}]], ids=["lists", "objects"]
)
def test_labels_may_be_lists_and_objects(labels):
    assert bootstrap_estimate(Accuracy(), labels, labels, 1)["accuracy"].mean == 1.0


def test_a_metric_that_a_fold_does_not_define_is_left_out():
    found = estimate_from_folds([{"r2": 0.5, "rare": 1.0}, {"r2": 0.6}, {"r2": 0.7, "rare": 0.5}])
    assert found.keys() == {"r2"}


@pytest.mark.parametrize("same", [True, False])
def test_of_one_class_all_but_the_roc_is_measured(same):
    found = classification_metrics([0.9, 0.8, 0.2], [same] * 3)
    assert math.isnan(found.pop("roc_auc"))
    assert found.keys() == {"accuracy", "f1", "log_loss"}
    assert all(math.isfinite(value) for value in found.values())


def test_a_metric_that_is_no_number_is_refused(doubler):
    class Vague(type(doubler)):
        def evaluate(self, predictions, labels):
            return {"r2": float("nan")}

    vague = Vague()
    vague.estimator = doubler.estimator
    with pytest.raises(ValueError, match=r"the primary metric r2 is not finite \(nan\)"):
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
