"""Metrics under the names that manifests and dashboards use. Each is a plain float; one that is undefined is NaN."""

import math
import warnings
from collections.abc import Mapping, Sequence
from typing import Any

from machine_learning_engineering.core.model import Model


def defined(metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are finite."""
    found = {name: float(value) for name, value in metrics.items()}
    return {name: value for name, value in found.items() if math.isfinite(value)}


def evaluate_sample(model: Model, predictions: Sequence[Any], labels: Sequence[Any]) -> dict[str, float]:
    """The metrics of a random sample of rows that are defined for it; none if `evaluate` raises.

    A sample may lack a class, or have no variance.
    """
    with warnings.catch_warnings():
        # scikit-learn warns and returns NaN where a metric is undefined.
        warnings.simplefilter("ignore")
        try:
            return defined(model.evaluate(predictions, labels))
        except (ValueError, ArithmeticError, LookupError):
            return {}


def regression_metrics(predicted: Sequence[float], actual: Sequence[float]) -> dict[str, float]:
    """R2, mean absolute error and root mean squared error; the errors have the unit of the label.

    R2 is undefined for fewer than two rows.

    >>> regression_metrics([1.0, 2.0, 4.0], [1.0, 2.0, 3.0])["mae"]
    0.3333333333333333
    """
    from sklearn import metrics

    return {
        "r2": float(metrics.r2_score(actual, predicted)),
        "mae": float(metrics.mean_absolute_error(actual, predicted)),
        "rmse": float(metrics.root_mean_squared_error(actual, predicted)),
    }


def classification_metrics(probabilities: Sequence[float], actual: Sequence[bool]) -> dict[str, float]:
    """Metrics of a binary classifier. `probabilities` are of the positive class, with a threshold of 0.5.

    The ROC AUC is undefined if all rows are of one class; the other metrics are not.

    >>> found = classification_metrics([0.9, 0.2], [True, True])
    >>> found["accuracy"], found["roc_auc"]
    (0.5, nan)
    """
    from sklearn import metrics

    answers = [probability >= 0.5 for probability in probabilities]
    return {
        "accuracy": float(metrics.accuracy_score(actual, answers)),
        "roc_auc": float(metrics.roc_auc_score(actual, probabilities)) if len(set(actual)) > 1 else math.nan,
        "f1": float(metrics.f1_score(actual, answers, zero_division=0)),
        "log_loss": float(metrics.log_loss(actual, probabilities, labels=[False, True])),
    }
