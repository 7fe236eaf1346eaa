"""How a diamond becomes numbers."""

import numpy as np
import pytest

from model.diamonds import Diamonds
from model.diamonds.features import DiamondFeatures, columns


def diamond(**changes) -> DiamondFeatures:
    values = {"carat": 0.5, "cut": "Good", "color": "E", "clarity": "VS2", "depth": 61.0, "table": 55.0}
    return DiamondFeatures(**(values | {"x": 5.1, "y": 5.2, "z": 3.1} | changes))


def test_grades_become_ranks_and_the_rest_stays():
    assert columns([diamond()]).tolist() == [[0.5, 1, 5, 3, 61, 55, 5.1, 5.2, 3.1]]


@pytest.mark.parametrize(
    ("field", "position", "worst_to_best"),
    [
        ("cut", 1, ["Fair", "Good", "Very Good", "Premium", "Ideal"]),
        ("color", 2, list("JIHGFED")),
        ("clarity", 3, ["I1", "SI2", "SI1", "VS2", "VS1", "VVS2", "VVS1", "IF"]),
    ],
)
def test_a_better_grade_has_a_higher_rank(field, position, worst_to_best):
    ranks = columns([diamond(**{field: grade}) for grade in worst_to_best])[:, position]
    assert ranks.tolist() == list(range(len(worst_to_best)))


def test_a_length_of_zero_is_unknown():
    assert np.isnan(columns([diamond(x=0, y=0, z=0)])[0]).tolist() == [False] * 6 + [True] * 3


def test_columns_are_what_the_estimator_takes_without_a_copy():
    matrix = columns([diamond()] * 3)
    assert (matrix.dtype, matrix.shape, matrix.flags.c_contiguous) == (np.float64, (3, 9), True)
    assert columns([]).shape == (0, 9)


def test_whole_numbers_are_accepted_as_numbers():
    raw = b'{"carat":1,"cut":"Good","color":"E","clarity":"VS2","depth":61,"table":55,"x":5,"y":5,"z":3}'
    assert Diamonds().decode(raw).carat == 1.0
