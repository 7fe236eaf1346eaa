"""Features and prediction of the Titanic model, and the inputs of its estimator.

Fields that the data lacks for some passengers (`age`, `embarked`, `cabin`), and the strings `name` and `ticket`, may be
null or absent, which means the same. Missing numbers are passed to the estimator as NaN. All other fields are required.
"""

from collections.abc import Sequence
from typing import Annotated, Literal

import numpy as np
from msgspec import Meta, Struct
from numpy.typing import NDArray

Text = Annotated[str, Meta(max_length=200)]
Count = Annotated[int, Meta(ge=0, le=50)]


class PassengerFeatures(Struct, frozen=True, forbid_unknown_fields=True):
    """One passenger, in Kaggle's columns."""

    pclass: Annotated[Literal[1, 2, 3], Meta(description="Class of the ticket.", examples=[3])]
    sex: Annotated[Literal["male", "female"], Meta(examples=["male"])]
    sibsp: Annotated[Count, Meta(description="Siblings and spouses aboard.", examples=[1])]
    parch: Annotated[Count, Meta(description="Parents and children aboard.", examples=[0])]
    fare: Annotated[float, Meta(ge=0, le=10_000, description="Pounds paid for the whole ticket.", examples=[7.25])]
    age: Annotated[float, Meta(ge=0, le=130, description="Years.", examples=[22.0])] | None = None
    embarked: Annotated[
        Literal["C", "Q", "S"] | None, Meta(description="Cherbourg, Queenstown, Southampton.", examples=["S"])
    ] = None
    name: Annotated[Text | None, Meta(description='As in "Braund, Mr. Owen Harris": its title is used.')] = None
    ticket: Annotated[Text | None, Meta(description="Accepted, not used.")] = None
    cabin: Annotated[Text | None, Meta(description="Its first letter, the deck, is used.")] = None


class SurvivalPrediction(Struct, frozen=True):
    """`probability` is of survival; `survived` is true if it is at least 0.5."""

    survived: bool
    probability: float


NAN = float("nan")
_PORTS = {"C": 0.0, "Q": 1.0, "S": 2.0, None: NAN}
# Titles distinguish boys from men without an age, and married women; rarer titles are one group.
_TITLES = {"Mr": 0.0, "Mrs": 1.0, "Miss": 2.0, "Master": 3.0, "Mme": 1.0, "Mlle": 2.0, "Ms": 2.0}
_OTHER_TITLE = 4.0
_DECKS = {deck: float(number) for number, deck in enumerate("ABCDEFG")}


INPUTS = (
    "pclass",
    "male",
    "age",
    "sibsp",
    "parch",
    "relatives",
    "fare",
    "embarked",
    "title",
    "deck",
    "log_fare_each",
    "large_family",
    "deck_known",
    "title_and_class",
)
"""Names of the columns of `build_inputs`."""
# Families with at least this number of relatives were rarely saved together.
_LARGE_FAMILY = 4


def build_inputs(rows: Sequence[PassengerFeatures]) -> NDArray[np.float64]:
    """Inputs of shape (rows, 14), in the order of `INPUTS`, with NaN for missing values."""
    numbers = [
        (
            r.pclass,
            r.sex == "male",
            NAN if r.age is None else r.age,
            r.sibsp,
            r.parch,
            r.sibsp + r.parch,
            r.fare,
            _PORTS[r.embarked],
            _title(r.name),
            _deck(r.cabin),
        )
        for r in rows
    ]
    given = np.array(numbers, dtype=np.float64).reshape(len(rows), 10)
    pclass, relatives, fare, title, deck = given[:, [0, 5, 6, 8, 9]].T
    # The fare is for the whole ticket, which a family shares. There are 3 classes per title.
    derived = (np.log1p(fare / (relatives + 1)), relatives >= _LARGE_FAMILY, ~np.isnan(deck), title * 3 + pclass)
    return np.column_stack([given, *derived])


def _title(name: str | None) -> float:
    if name is None:
        return NAN
    # "Braund, Mr. Owen Harris"
    title, stop, _ = name.partition(", ")[2].partition(".")
    return _TITLES.get(title, _OTHER_TITLE) if stop else NAN


def _deck(cabin: str | None) -> float:
    return _DECKS.get(cabin[:1], NAN) if cabin else NAN
