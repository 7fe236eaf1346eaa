"""Metrics of a model with confidence intervals, and its prediction speed."""

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.evaluation.splits import FOLDS

CONFIDENCE = 0.95
RESAMPLES = 200
BATCHES = (1, 32, 1_024)


class FitFailed(RuntimeError):
    """A candidate could not be fitted or measured. The message names the candidate and the cause."""


@contextmanager
def naming_candidate(candidate: str) -> Iterator[None]:
    """Raise any error of the block as `FitFailed` with the candidate's name."""
    try:
        yield
    except Exception as error:
        raise FitFailed(f"candidate {candidate} failed: {type(error).__name__}: {error}") from error


class Estimate(msgspec.Struct, frozen=True):
    """A metric with its standard error and 95 % confidence interval.

    `mean` is the mean over folds, or the metric of all held-out rows.
    """

    mean: float
    low: float
    high: float
    standard_error: float


def measure(model: Model, rows: Sequence[Any], labels: Sequence[Any]) -> dict[str, float]:
    """Metrics of a fitted model on labelled rows.

    Raises:
        ValueError: A metric is not finite, or the primary one is missing.
    """
    return _checked(model, model.evaluate(model.predict(rows), labels))


def estimate_from_folds(scores: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """Mean of each metric over folds, with the corrected resampled t interval.

    Training sets of different folds overlap, so the plain standard error is too small. With J scores s_1..s_J and a
    test to training ratio of 1 / (FOLDS - 1) the corrected one is::

        SE = sqrt(var(s, ddof=1) * (1 / J + 1 / (FOLDS - 1)))

    The interval is mean +- t(0.975, J - 1) * SE.

    Source: C. Nadeau and Y. Bengio, Inference for the Generalization Error, Machine Learning 52, 2003.

    >>> found = estimate_from_folds([{"r2": value} for value in (0.1, 0.2, 0.3, 0.4, 0.5)])["r2"]
    >>> round(found.mean, 3), round(found.standard_error, 3), round(found.low, 3), round(found.high, 3)
    (0.3, 0.106, 0.006, 0.594)

    Args:
        scores: Metrics of each fold (at least two), all with the same names.
    """
    from scipy.stats import t

    found = {}
    for metric in scores[0]:
        values = np.array([one[metric] for one in scores])
        error = math.sqrt(values.var(ddof=1) * (1 / len(values) + 1 / (FOLDS - 1)))
        margin = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
        mean = float(values.mean())
        found[metric] = Estimate(mean, mean - margin, mean + margin, error)
    return found


def bootstrap_estimate(
    model: Model, predictions: Sequence[Any], labels: Sequence[Any], seed: int
) -> dict[str, Estimate]:
    """Each metric on held-out rows, with a percentile bootstrap interval.

    `RESAMPLES` samples of n rows are drawn with replacement from the n rows; the interval is from the 2.5 % to the
    97.5 % quantile of the metric over samples, the standard error their standard deviation. A sample with one class
    only is drawn again if the rows have several, because some metrics need two classes or some variance.

    Rows must be independent of each other: if groups of rows belong together, the interval is too narrow.

    Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13.

    Args:
        predictions: Shape (n,).
        labels: Shape (n,), the true labels of the same rows.

    Raises:
        ValueError: A metric is not finite, or the primary one is missing.
    """
    random = np.random.default_rng(seed)
    samples: list[Mapping[str, float]] = []
    while len(samples) < RESAMPLES:
        chosen = random.integers(0, len(labels), len(labels)).tolist()
        drawn = [labels[index] for index in chosen]
        if len(set(drawn)) > 1 or len(set(labels)) == 1:
            samples.append(model.evaluate([predictions[index] for index in chosen], drawn))
    found = {}
    for metric, value in _checked(model, model.evaluate(predictions, labels)).items():
        values = np.array([sample[metric] for sample in samples])
        low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
        found[metric] = Estimate(value, low, high, float(values.std(ddof=1)))
    return found


def rows_per_second(model: Model, rows: Sequence[Any], seconds: float = 0.1) -> dict[str, int]:
    """Throughput of `predict` on decoded rows, by batch size (1, 32 and 1,024).

    Each batch size is repeated for `seconds`; the fastest call counts.
    """
    found = {}
    for size in BATCHES:
        batch = [rows[index % len(rows)] for index in range(size)]
        fastest, deadline = math.inf, time.perf_counter() + seconds
        while True:
            started = time.perf_counter()
            model.predict(batch)
            ended = time.perf_counter()
            fastest = min(fastest, ended - started)
            if ended > deadline:
                break
        found[str(size)] = round(size / fastest)
    return found


def _checked(model: Model, metrics: Mapping[str, float]) -> dict[str, float]:
    found = {name: float(value) for name, value in metrics.items()}
    if model.primary_metric not in found:
        raise ValueError(f"evaluate() lacks the primary metric {model.primary_metric}")
    if bad := sorted(name for name, value in found.items() if not math.isfinite(value)):
        raise ValueError(f"metrics are not finite: {', '.join(bad)}")
    return found
