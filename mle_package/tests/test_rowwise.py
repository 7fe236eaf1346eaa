"""Linear estimators give a row the same bits in every batch, and scikit-learn's answer but for the last of them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression, Ridge

from machine_learning_engineering.estimators.rowwise import RowwiseLogisticRegression, RowwiseRidge

RANDOM = np.random.default_rng(1)
INPUTS = RANDOM.normal(size=(1_500, 51))
NUMBERS = INPUTS @ RANDOM.normal(size=51) + RANDOM.normal(size=1_500)
PAIRS = [
    (RowwiseRidge(alpha=0.1), Ridge(alpha=0.1), "predict"),
    (RowwiseLogisticRegression(), LogisticRegression(), "predict_proba"),
]
for _ours, _theirs, _ in PAIRS:
    for _estimator in (_ours, _theirs):
        _estimator.fit(INPUTS, NUMBERS if isinstance(_estimator, Ridge) else NUMBERS > 0)


@pytest.mark.parametrize(("ours", "theirs", "method"), PAIRS)
def test_answers_are_those_of_scikit_learn(ours, theirs, method):
    assert np.allclose(getattr(ours, method)(INPUTS), getattr(theirs, method)(INPUTS), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize(("ours", "_theirs", "method"), PAIRS)
@given(start=st.integers(0, 1_400), size=st.integers(1, 1_100))
def test_a_row_has_the_same_bits_in_any_batch(ours, _theirs, method, start, size):
    answer = getattr(ours, method)
    assert np.array_equal(answer(INPUTS[start : start + size]), answer(INPUTS)[start : start + size])


@pytest.mark.parametrize(("ours", "_theirs", "method"), PAIRS)
def test_the_order_in_memory_does_not_matter(ours, _theirs, method):
    answer = getattr(ours, method)
    assert np.array_equal(answer(np.asfortranarray(INPUTS)), answer(INPUTS))
