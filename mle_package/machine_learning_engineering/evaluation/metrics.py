"""Metrics under the names that manifests and dashboards use. Each is a plain float."""

from collections.abc import Sequence


def regression_metrics(predicted: Sequence[float], actual: Sequence[float]) -> dict[str, float]:
    """R2, mean absolute error and root mean squared error; the errors have the unit of the label.

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
    """Metrics of a binary classifier. `probabilities` are of the positive class, with a threshold of 0.5."""
    from sklearn import metrics

    answers = [probability >= 0.5 for probability in probabilities]
    return {
        "accuracy": float(metrics.accuracy_score(actual, answers)),
        "roc_auc": float(metrics.roc_auc_score(actual, probabilities)),
        "f1": float(metrics.f1_score(actual, answers)),
        "log_loss": float(metrics.log_loss(actual, probabilities)),
    }
