"""The measures that the model card of the reviews is made with."""

import numpy as np
import pytest
from sklearn.metrics import f1_score

from benchmarks.reviews_study import (
    Corpus,
    brier,
    calibration_error,
    interval,
    macro_f1,
    threshold_vader,
    threshold_vader_cv,
    truth_of,
)
from model.reviews.dataset import RatedSentence


@pytest.mark.parametrize("seed", range(5))
def test_macro_f1_is_that_of_scikit_learn(seed):
    truth, answers = np.random.default_rng(seed).integers(0, 3, (2, 20))
    expected = f1_score(truth, answers, average="macro", labels=[0, 1, 2], zero_division=0)
    assert macro_f1(truth, answers) == pytest.approx(expected)


def test_probabilities_that_come_true_are_calibrated():
    truth = np.array([0, 1, 2, 2] * 25)
    said = np.tile([0.25, 0.25, 0.5], (100, 1))
    assert calibration_error(truth, said) == pytest.approx(0)
    assert calibration_error(truth, np.tile([1.0, 0.0, 0.0], (100, 1))) == pytest.approx((0.75 + 0.25 + 0.5) / 3)


def test_brier_is_the_squared_distance_to_what_happened():
    assert brier(np.array([0, 2]), np.eye(3)[[0, 2]]) == 0
    assert brier(np.array([0, 2]), np.eye(3)[[1, 2]]) == 1


def test_limits_part_scores():
    assert threshold_vader(np.array([-0.05, -0.04, 0.0, 0.049, 0.05])).tolist() == [0, 1, 1, 1, 2]


def test_limits_are_fitted_to_the_other_folds():
    scores = np.linspace(-1, 1, 60)
    truth = np.digitize(scores, [0.3, 0.6])
    groups = np.arange(60)
    folds = [groups[groups % 3 == part] for part in range(3)]
    assert macro_f1(truth, threshold_vader_cv(scores, truth, groups, folds)) > 0.9
    assert macro_f1(truth, threshold_vader(scores)) < 0.7


def test_an_interval_is_of_whole_groups():
    groups = np.repeat(np.arange(10), 50)
    values = (groups < 5).astype(float)
    low, high = interval(groups, lambda rows: float(values[rows].mean()))
    # Of 500 independent rows it would reach from 0.46 to 0.54.
    assert low <= 0.3
    assert high >= 0.7


def test_a_sentence_has_the_class_of_its_review_and_one_of_its_own():
    sentences = [
        [RatedSentence("1", 3.0, "good."), RatedSentence("1", 0.0, "red.")],
        [RatedSentence("2", -2.0, "bad.")],
    ]
    corpus = Corpus(sentences, np.empty(2, dtype=object), np.array([4.5, 1.0]), np.array([2, 0]))
    truth = truth_of(corpus)
    assert (truth.inherited.tolist(), truth.own.tolist(), truth.review_of.tolist()) == ([2, 2, 0], [2, 1, 0], [0, 0, 1])
