"""Metrics of a model with confidence intervals, and its prediction speed."""

import math
import time
from collections.abc import Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import numpy as np

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.evaluation.metrics import defined, evaluate_sample
from machine_learning_engineering.evaluation.splits import FOLDS, group_codes

CONFIDENCE = 0.95
RESAMPLES = 1_000
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

    `mean` is the mean over folds, or the metric of all held-out rows. `undefined` is the number of bootstrap samples in
    which the metric is undefined; they are left out.
    """

    mean: float
    low: float
    high: float
    standard_error: float
    undefined: int = 0


def measure(model: Model, rows: Sequence[Any], labels: Sequence[Any]) -> dict[str, float]:
    """Metrics of a fitted model on labelled rows. Undefined ones are left out.

    Raises:
        ValueError: The primary metric is missing or not finite.
    """
    return finite_metrics(model, model.evaluate(model.predict(rows), labels))


def finite_metrics(model: Model, metrics: Mapping[str, float]) -> dict[str, float]:
    """The metrics that are defined.

    Raises:
        ValueError: The primary metric is missing or not finite.
    """
    if model.primary_metric not in metrics:
        raise ValueError(f"evaluate() lacks the primary metric {model.primary_metric}")
    found = defined(metrics)
    if model.primary_metric not in found:
        value = metrics[model.primary_metric]
        raise ValueError(
            f"the primary metric {model.primary_metric} is not finite ({value}): it is undefined for the rows"
        )
    return found


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
        scores: Metrics of each fold (at least two). One that is missing in a fold is left out.
    """
    from scipy.stats import t

    found = {}
    for metric in (name for name in scores[0] if all(name in one for one in scores)):
        values = np.array([one[metric] for one in scores])
        error = math.sqrt(values.var(ddof=1) * (1 / len(values) + 1 / (FOLDS - 1)))
        margin = float(t.ppf((1 + CONFIDENCE) / 2, len(values) - 1)) * error
        mean = float(values.mean())
        found[metric] = Estimate(mean, mean - margin, mean + margin, error)
    return found


def bootstrap_estimate(
    model: Model,
    predictions: Sequence[Any],
    labels: Sequence[Any],
    seed: int,
    *,
    groups: Sequence[Hashable] | None = None,
) -> dict[str, Estimate]:
    """Each metric that is defined on held-out rows, with a percentile bootstrap interval.

    `RESAMPLES` times as many groups as there are are drawn with replacement, each with all of its rows; the interval is
    from the 2.5 % to the 97.5 % quantile of the metric over samples, the standard error their standard deviation. A
    sample in which the metric is undefined, for example because it has one class only, is left out and counted.

    Groups must be independent of each other. If all rows are one group, rows are drawn, and the interval is too narrow.

    Source: B. Efron and R. J. Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.

    Args:
        predictions: Shape (n,).
        labels: Shape (n,), the true labels of the same rows.
        groups: Group of each row, shape (n,); by default each row is its own.
    """
    found = defined(model.evaluate(predictions, labels))
    values: dict[str, list[float]] = {metric: [] for metric in found}
    for chosen in _resamples(len(labels), groups, seed):
        sample = evaluate_sample(model, [predictions[row] for row in chosen], [labels[row] for row in chosen])
        for metric in values.keys() & sample.keys():
            values[metric].append(sample[metric])
    estimates = {}
    for metric, samples in values.items():
        if len(samples) > 1:  # Otherwise there is no interval.
            low, high = np.quantile(samples, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2]).tolist()
            error = float(np.std(samples, ddof=1))
            estimates[metric] = Estimate(found[metric], low, high, error, RESAMPLES - len(samples))
    return estimates


def _resamples(rows: int, groups: Sequence[Hashable] | None, seed: int) -> Iterator[list[int]]:
    """Row indices of each bootstrap sample."""
    random = np.random.default_rng(seed)
    codes = np.arange(rows) if groups is None else group_codes(groups)
    if len(counts := np.bincount(codes)) == 1:
        codes, counts = np.arange(rows), np.ones(rows, dtype=np.int64)
    order = np.argsort(codes, kind="stable")
    members = None if len(counts) == rows else np.split(order, np.cumsum(counts)[:-1])
    for _ in range(RESAMPLES):
        drawn = random.integers(0, len(counts), len(counts))
        chosen = order[drawn] if members is None else np.concatenate([members[group] for group in drawn])
        yield chosen.tolist()


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
