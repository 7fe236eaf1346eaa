"""Our metrics against scikit-learn's, on any rows."""

import math
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn import metrics

from machine_learning_engineering.evaluation.metrics import classification_metrics, macro_f1, regression_metrics

PROBABILITY = st.floats(0, 1) | st.sampled_from([0.0, 0.25, 0.5, 1.0])
# Of few digits: metrics of others differ where rounding decides.
NUMBER = st.integers(-(2**24), 2**24).map(lambda number: number / 64) | st.integers(-3, 3).map(float)


@given(st.lists(st.tuples(PROBABILITY, st.booleans()), min_size=1, max_size=60))
def test_a_binary_classifier(rows):
    scores, actual = (list(column) for column in zip(*rows, strict=True))
    answers = [score >= 0.5 for score in scores]
    found = classification_metrics(scores, actual)
    assert found["accuracy"] == pytest.approx(metrics.accuracy_score(actual, answers), rel=1e-12)
    assert found["f1"] == pytest.approx(metrics.f1_score(actual, answers, zero_division=0), rel=1e-12)
    assert found["log_loss"] == pytest.approx(
        metrics.log_loss(actual, np.array(scores), labels=[False, True]), rel=1e-9, abs=1e-12
    )
    if len(set(actual)) == 1:
        assert math.isnan(found["roc_auc"])
    else:
        assert found["roc_auc"] == pytest.approx(metrics.roc_auc_score(actual, scores), rel=1e-9, abs=1e-12)


@given(st.lists(st.tuples(NUMBER, NUMBER), min_size=2, max_size=60))
def test_a_regression(rows):
    predicted, actual = (list(column) for column in zip(*rows, strict=True))
    found = regression_metrics(predicted, actual)
    assert found["mae"] == pytest.approx(metrics.mean_absolute_error(actual, predicted), rel=1e-9)
    assert found["rmse"] == pytest.approx(metrics.root_mean_squared_error(actual, predicted), rel=1e-9)
    if len(set(actual)) > 1:
        assert found["r2"] == pytest.approx(metrics.r2_score(actual, predicted), rel=1e-6, abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=1, max_size=60))
def test_the_mean_f1_of_classes(rows):
    actual, answers = zip(*rows, strict=True)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = metrics.f1_score(actual, answers, average="macro", labels=[0, 1, 2], zero_division=0)
    assert macro_f1(actual, answers, 3) == pytest.approx(expected, rel=1e-12, abs=1e-15)


@pytest.mark.parametrize(("predicted", "r2"), [([0.1, 0.1, 0.1], 1.0), ([0.1, 0.1, 0.2], 0.0)])
def test_labels_without_variance(predicted, r2):
    assert regression_metrics(predicted, [0.1, 0.1, 0.1])["r2"] == r2


def test_one_row_has_no_r2():
    found = regression_metrics([2.0], [1.0])
    assert math.isnan(found.pop("r2"))
    assert found == {"mae": 1.0, "rmse": 1.0}


@pytest.mark.parametrize(
    ("given", "actual"),
    [
        ([], []),
        ([0.5], [True, False]),
        ([math.nan], [True]),
        ([math.inf], [True]),
        ([0.5], [math.nan]),
        ([[0.5]], [[1]]),
    ],
)
@pytest.mark.parametrize("measure", [regression_metrics, classification_metrics])
def test_what_is_no_column_of_numbers_is_refused(measure, given, actual):
    with pytest.raises(ValueError, match=r"not finite|of shape"):
        measure(given, actual)


@pytest.mark.parametrize("probability", [-0.1, 1.1])
def test_what_is_no_probability_is_refused(probability):
    with pytest.raises(ValueError, match="not between 0 and 1"):
        classification_metrics([probability], [True])


@pytest.mark.parametrize(("answers", "actual"), [([], []), ([1], [1, 2])])
def test_answers_and_labels_are_as_many(answers, actual):
    with pytest.raises(ValueError, match="answers for"):
        macro_f1(actual, answers, 3)
