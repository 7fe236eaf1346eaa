"""How a passenger becomes numbers."""

import numpy as np
import pytest

from model.titanic.features import PassengerFeatures, columns


def passenger(**changes) -> PassengerFeatures:
    return PassengerFeatures(**({"pclass": 3, "sex": "male", "sibsp": 1, "parch": 2, "fare": 7.25} | changes))


def test_everything_known():
    row = passenger(age=22.0, embarked="S", name="Braund, Mr. Owen Harris", cabin="C85", ticket="A/5 21171")
    assert columns([row]).tolist() == [[3, 1, 22, 1, 2, 3, 7.25, 2, 0, 2]]


def test_what_is_missing_is_nan():
    assert np.isnan(columns([passenger()])[0]).nonzero()[0].tolist() == [2, 7, 8, 9]


@pytest.mark.parametrize(
    ("name", "group"),
    [
        ("Braund, Mr. Owen Harris", 0),
        ("Cumings, Mrs. John Bradley (Florence Briggs Thayer)", 1),
        ("Aubart, Mme. Leontine Pauline", 1),
        ("Heikkinen, Miss. Laina", 2),
        ("Palsson, Master. Gosta Leonard", 3),
        ("Rothes, the Countess. of (Lucy Noel Martha Dyer-Edwards)", 4),
    ],
)
def test_titles_fall_into_groups(name, group):
    assert columns([passenger(name=name)])[0, 8] == group


@pytest.mark.parametrize("name", ["", "no comma", "Comma, ", "Comma, without a stop"])
def test_a_name_without_a_title_counts_as_missing(name):
    assert np.isnan(columns([passenger(name=name)])[0, 8])


@pytest.mark.parametrize(("cabin", "deck"), [("A6", 0), ("G", 6), ("T", None), ("", None), ("?", None)])
def test_the_deck_is_the_first_letter_of_the_cabin(cabin, deck):
    found = columns([passenger(cabin=cabin)])[0, 9]
    assert np.isnan(found) if deck is None else found == deck


def test_no_passengers_make_no_lines():
    assert columns([]).shape == (0, 10)
