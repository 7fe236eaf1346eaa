"""Candidates for the Titanic, the simplest first."""

from collections.abc import Mapping
from typing import Any

from machine_learning_engineering import Candidate
from model.titanic.features import INPUTS

_CATEGORIES = ("pclass", "male", "embarked", "title", "title_and_class")
# The deck is known for a quarter of the passengers: whether it is known says more than which it is.
_NUMBERS = ("age", "sibsp", "parch", "relatives", "log_fare_each", "large_family", "deck_known")


def logistic_regression(params: Mapping[str, Any], seed: int) -> Any:
    from sklearn.pipeline import make_pipeline

    from machine_learning_engineering.estimators.rowwise import RowwiseLogisticRegression
    from model.titanic.preprocessing import Encoder

    encoder = Encoder([INPUTS.index(name) for name in _NUMBERS], [INPUTS.index(name) for name in _CATEGORIES])
    return make_pipeline(encoder, RowwiseLogisticRegression(max_iter=1_000, random_state=seed, **params))


def random_forest(params: Mapping[str, Any], seed: int) -> Any:
    from sklearn.ensemble import RandomForestClassifier

    return RandomForestClassifier(n_jobs=1, random_state=seed, **params)


def gradient_boosting(params: Mapping[str, Any], seed: int) -> Any:
    from machine_learning_engineering.estimators.empty_columns import TolerantBoostingClassifier

    return TolerantBoostingClassifier(early_stopping=False, random_state=seed, **params)


CANDIDATES = (
    Candidate("logistic-regression", logistic_regression, {"C": 0.3}),
    # Few rows need small trees and a low learning rate.
    Candidate("gradient-boosting", gradient_boosting, {"max_iter": 100, "max_leaf_nodes": 8, "learning_rate": 0.05}),
    Candidate("random-forest", random_forest, {"n_estimators": 150, "min_samples_leaf": 3, "max_features": 0.5}),
)
