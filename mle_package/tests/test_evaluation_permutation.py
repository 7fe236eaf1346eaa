"""Permutation tests: a stated rate of false alarms for any metric, and power where there is a difference."""

import numpy as np
import pytest

from machine_learning_engineering.evaluation import permutation
from machine_learning_engineering.evaluation.permutation import paired_permutation_test


class Fraction:
    """A model whose metric is the share of right answers; undefined for no rows."""

    name, primary_metric = "fraction", "accuracy"

    def evaluate(self, predictions, labels):
        if not labels:
            raise ValueError("no rows")
        return {"accuracy": float(np.mean(np.array(predictions) == np.array(labels)))}


def pairs(random, count, accuracy):
    return [(1, int(right)) for right in random.random(count) < accuracy]


def test_the_false_alarm_rate_is_the_stated_one():
    random = np.random.default_rng(5)
    alarms = sum(
        permutation.test_degradation(
            Fraction(), pairs(random, 150, 0.8), pairs(random, 60, 0.8), significance=0.1, seed=run
        ).significant
        for run in range(400)
    )
    # 40 are expected at most; more than 60 would be a chance of 1 in 1,000.
    assert 5 <= alarms <= 60


@pytest.mark.parametrize(("accuracy", "significant"), [(0.6, True), (0.8, False), (0.95, False)])
def test_only_a_lower_metric_is_degraded(accuracy, significant):
    random = np.random.default_rng(5)
    test = permutation.test_degradation(
        Fraction(), pairs(random, 500, 0.8), pairs(random, 300, accuracy), significance=0.01, seed=1
    )
    assert test.significant is significant
    assert (test.reference_rows, test.rows, test.metric) == (500, 300, "accuracy")


def test_the_same_rows_and_seed_give_the_same_p_value():
    random = np.random.default_rng(5)
    one, other = pairs(random, 100, 0.8), pairs(random, 100, 0.7)
    tests = [permutation.test_degradation(Fraction(), one, other, significance=0.01, seed=3) for _ in range(2)]
    assert tests[0] == tests[1]


def test_a_clear_case_stops_early():
    random = np.random.default_rng(5)
    test = permutation.test_degradation(
        Fraction(), pairs(random, 100, 0.5), pairs(random, 100, 0.9), significance=0.001, seed=3
    )
    assert (test.p_value, test.n_permutations) == (1.0, 4)


def test_a_challenger_that_is_right_more_often_is_better():
    random = np.random.default_rng(5)
    labels = random.integers(0, 2, 400)
    champion = np.where(random.random(400) < 0.7, labels, 1 - labels).tolist()
    challenger = np.where(random.random(400) < 0.9, labels, 1 - labels).tolist()
    test = paired_permutation_test(Fraction(), champion, challenger, labels.tolist(), significance=0.01, seed=1)
    assert test.significant
    assert test.observed > test.reference
    reverse = paired_permutation_test(Fraction(), challenger, champion, labels.tolist(), significance=0.01, seed=1)
    assert (reverse.significant, reverse.p_value) == (False, 1.0)


def test_equal_models_are_promoted_no_more_often_than_stated():
    random = np.random.default_rng(6)
    wins = 0
    for run in range(300):
        labels = random.integers(0, 2, 80)
        one, other = (np.where(random.random(80) < 0.8, labels, 1 - labels).tolist() for _ in range(2))
        wins += paired_permutation_test(Fraction(), one, other, labels.tolist(), significance=0.1, seed=run).significant
    assert wins <= 48  # 30 are expected at most; more than 48 would be a chance of 1 in 1,000.


def test_equal_models_are_promoted_no_more_often_than_stated_where_rows_come_in_groups():
    """Ten copies of a row are no ten reasons to prefer the model that is right on it."""
    random = np.random.default_rng(6)
    wins = 0
    for run in range(150):
        labels = np.repeat(random.integers(0, 2, 20), 10)
        one, other = (np.where(np.repeat(random.random(20) < 0.8, 10), labels, 1 - labels).tolist() for _ in range(2))
        wins += paired_permutation_test(
            Fraction(),
            one,
            other,
            labels.tolist(),
            significance=0.1,
            seed=run,
            groups=np.repeat(range(20), 10).tolist(),
        ).significant
    assert wins <= 27  # 15 are expected at most; more than 27 would be a chance of 1 in 1,000.


def test_a_metric_that_is_not_defined_says_so():
    with pytest.raises(ValueError, match="the live accuracy of model `fraction` is undefined for 0 rows"):
        permutation.test_degradation(Fraction(), [(1, 1)], [], significance=0.01, seed=1)
