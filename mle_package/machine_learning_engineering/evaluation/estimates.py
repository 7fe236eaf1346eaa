"""How good a model is: parts and folds of rows, cross-validation, confidence intervals, and speed."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.evaluation.splits import FOLDS, Fold

CONFIDENCE = 0.95
RESAMPLES = 200
BATCHES = (1, 32, 1_024)


class FitFailed(RuntimeError):
    """An estimator could not be fitted or measured; the message names the candidate and the reason."""


@contextmanager
def naming_candidate(candidate: str) -> Iterator[None]:
    """Names the candidate in whatever its estimator raises.

    Raises:
        FitFailed: the block raised something.
    """
    try:
        yield
    except Exception as error:
        raise FitFailed(f"the candidate {candidate} failed: {type(error).__name__}: {error}") from error


class Estimate(msgspec.Struct, frozen=True):
    """A metric: its mean (of folds, or of the rows themselves), with the 95 % confidence interval."""

    mean: float
    low: float
    high: float
    standard_error: float


def score(
    model_class: type[Model],
    rows: Sequence[Any],
    labels: Sequence[Any],
    fold: Fold,
    fit: Callable[[Model, list[Any], list[Any]], None],
) -> dict[str, float]:
    """The metrics of one fold.

    Raises:
        ValueError: a metric is no finite number.
    """
    fitting, measuring = fold
    model = model_class()
    fit(model, [rows[index] for index in fitting], [labels[index] for index in fitting])
    return measure(model, [rows[index] for index in measuring], [labels[index] for index in measuring])


def measure(model: Model, rows: Sequence[Any], labels: Sequence[Any]) -> dict[str, float]:
    """The metrics of a fitted model on rows.

    Raises:
        ValueError: a metric is no finite number, or the primary one is missing.
    """
    return _checked(model, model.evaluate(model.predict(rows), labels))


def estimate_from_folds(scores: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
    """The mean of each metric over folds, with its interval.

    Folds share most of the rows that they are fitted on, so that the plain standard error is too small. It is corrected
    after Nadeau and Bengio (2003): variance * (1 / number of scores + 1 / (FOLDS - 1)); Student's t for the interval.
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
    """Each metric on held-out rows, with the percentiles of 200 bootstrap samples of these rows as its interval."""
    random = np.random.default_rng(seed)
    samples: list[Mapping[str, float]] = []
    while len(samples) < RESAMPLES:
        chosen = random.integers(0, len(labels), len(labels)).tolist()
        drawn = [labels[index] for index in chosen]
        if len(set(drawn)) > 1 or len(set(labels)) == 1:  # Some metrics need two classes, or any variance.
            samples.append(model.evaluate([predictions[index] for index in chosen], drawn))
    found = {}
    for metric, value in _checked(model, model.evaluate(predictions, labels)).items():
        values = np.array([sample[metric] for sample in samples])
        low, high = np.quantile(values, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
        found[metric] = Estimate(value, low, high, float(values.std(ddof=1)))
    return found


def rows_per_second(model: Model, rows: Sequence[Any], seconds: float = 0.1) -> dict[str, int]:
    """How fast `predict` answers decoded rows in batches of 1, 32 and 1,024: the fastest of repeated calls counts."""
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
        raise ValueError(f"evaluate() gives no {model.primary_metric}, which is the primary metric")
    if bad := sorted(name for name, value in found.items() if not math.isfinite(value)):
        raise ValueError(f"{', '.join(bad)} is no finite number")
    return found
