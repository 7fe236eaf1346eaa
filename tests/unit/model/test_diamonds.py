"""How a diamond becomes numbers."""

import numpy as np
import pytest

from model.diamonds.features import GRADES, INPUTS, DiamondFeatures, build_inputs
from model.diamonds.model import Diamonds
from model.diamonds.preprocessing import LogTerms


def diamond(**changes) -> DiamondFeatures:
    values = {"carat": 0.5, "cut": "Good", "color": "E", "clarity": "VS2", "depth": 61.0, "table": 55.0}
    return DiamondFeatures(**(values | {"x": 5.1, "y": 5.2, "z": 3.1} | changes))


def test_grades_become_ranks_and_the_rest_stays():
    assert build_inputs([diamond()]).tolist() == [[0.5, 1, 5, 3, 61, 55, 5.1, 5.2, 3.1]]


@pytest.mark.parametrize(
    ("field", "position", "worst_to_best"),
    [
        ("cut", 1, ["Fair", "Good", "Very Good", "Premium", "Ideal"]),
        ("color", 2, list("JIHGFED")),
        ("clarity", 3, ["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"]),
    ],
)
def test_a_better_grade_has_a_higher_rank(field, position, worst_to_best):
    ranks = build_inputs([diamond(**{field: grade}) for grade in worst_to_best])[:, position]
    assert ranks.tolist() == list(range(len(worst_to_best)))


def test_a_length_of_zero_is_unknown():
    assert np.isnan(build_inputs([diamond(x=0, y=0, z=0)])[0]).tolist() == [False] * 6 + [True] * 3


def test_columns_are_what_the_estimator_takes_without_a_copy():
    matrix = build_inputs([diamond()] * 3)
    assert (matrix.dtype, matrix.shape, matrix.flags.c_contiguous) == (np.float64, (3, 9), True)
    assert build_inputs([]).shape == (0, 9)


def test_whole_numbers_are_accepted_as_numbers():
    raw = b'{"carat":1,"cut":"Good","color":"E","clarity":"VS2","depth":61,"table":55,"x":5,"y":5,"z":3}'
    assert Diamonds().decode(raw).carat == 1.0


def test_inputs_have_the_names_and_grades_the_counts_that_they_say():
    best = build_inputs([diamond(cut="Ideal", color="D", clarity="IF")])[0]
    assert len(INPUTS) == len(best) == len(Diamonds.feature_names_in)
    assert {name: best[INPUTS.index(name)] + 1 for name in GRADES} == GRADES


def test_terms_of_the_linear_model():
    matrix = build_inputs([diamond(carat=1.0, x=0), diamond(carat=np.e)])
    before = matrix.copy()
    terms = LogTerms().fit_transform(matrix)
    assert terms.shape == (2, 51)
    assert np.isfinite(terms).all()
    # The logarithm of the weight, its square and its cube; which lengths are unknown; one grade of each kind.
    assert terms[:, :3].tolist() == [[0, 0, 0], [1, 1, 1]]
    assert terms[:, 8:11].tolist() == [[1, 0, 0], [0, 0, 0]]
    assert terms[:, 11:31].sum(axis=1).tolist() == [3, 3]
    assert (terms[1, 31:] == terms[1, 11:31]).all()
    assert not terms[0, 31:].any()
    assert np.array_equal(matrix, before, equal_nan=True)
