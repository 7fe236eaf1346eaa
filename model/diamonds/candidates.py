"""Candidates for the price of a diamond, the simplest first.

Errors grow with the price. So the linear model predicts its logarithm, and the trees use the gamma loss, which weights
errors relatively; its log link keeps predictions above 0.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from machine_learning_engineering import Candidate

if TYPE_CHECKING:
    import optuna


def linear_regression(params: Mapping[str, Any], seed: int) -> Any:
    import numpy as np
    from sklearn.compose import TransformedTargetRegressor
    from sklearn.pipeline import make_pipeline

    from machine_learning_engineering.estimators.rowwise import RowwiseRidge
    from model.diamonds.preprocessing import LogTerms

    # The columns of a grade add up to 1, so a small penalty is needed to make the solution unique.
    logarithm = make_pipeline(LogTerms(), RowwiseRidge(random_state=seed, **params))
    return TransformedTargetRegressor(logarithm, func=np.log, inverse_func=np.exp, check_inverse=False)


def gradient_boosting(params: Mapping[str, Any], seed: int) -> Any:
    from machine_learning_engineering.estimators.empty_columns import TolerantBoostingRegressor

    return TolerantBoostingRegressor(loss="gamma", early_stopping=False, random_state=seed, **params)


def xgboost(params: Mapping[str, Any], seed: int) -> Any:
    from xgboost import XGBRegressor

    return XGBRegressor(objective="reg:gamma", tree_method="hist", n_jobs=1, random_state=seed, **params)


def suggest_xgboost(trial: "optuna.Trial") -> dict[str, Any]:
    """Ranges around common values; more or deeper trees are slower without a gain."""
    return {
        "n_estimators": trial.suggest_int("n_estimators", 150, 450, step=50),
        "max_depth": trial.suggest_int("max_depth", 5, 8),
        "learning_rate": trial.suggest_float("learning_rate", 0.04, 0.2, log=True),
        "min_child_weight": trial.suggest_float("min_child_weight", 0.1, 10.0, log=True),
        "subsample": trial.suggest_float("subsample", 0.7, 1.0),
        "colsample_bytree": trial.suggest_float("colsample_bytree", 0.6, 1.0),
        "reg_lambda": trial.suggest_float("reg_lambda", 0.1, 10.0, log=True),
    }


CANDIDATES = (
    Candidate("linear-regression", linear_regression, {"alpha": 1e-3}),
    Candidate("gradient-boosting", gradient_boosting, {"max_iter": 100, "max_leaf_nodes": 63, "learning_rate": 0.15}),
    Candidate(
        "xgboost",
        xgboost,
        {"n_estimators": 300, "max_depth": 7, "learning_rate": 0.08},
        search=suggest_xgboost,
        trials=15,
    ),
)
BY_NAME = {candidate.name: candidate for candidate in CANDIDATES}
