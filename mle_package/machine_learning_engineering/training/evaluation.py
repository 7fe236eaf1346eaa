"""How good a model is: parts and folds of rows, cross-validation, confidence intervals, and speed."""

import hashlib
import math
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import msgspec
import numpy as np

from machine_learning_engineering.model import MLEModel

HELD_OUT = 0.2
"""About this share of the rows is held out: metrics are measured on it, and no model ever sees it."""
FOLDS = 5
FEW_ROWS = 5_000
"""With fewer rows, cross-validation is repeated on other folds, because its result depends on them."""
REPEATS = 4
CONFIDENCE = 0.95
RESAMPLES = 200
BATCHES = (1, 32, 1_024)

Fold = tuple[list[int], list[int]]
"""The indices of the rows to fit on and of those to measure on."""
_Group = TypeVar("_Group", bound=Hashable)


class FitFailed(RuntimeError):
    """An estimator could not be fitted or measured; the message names the candidate and the reason."""


@contextmanager
def naming(candidate: str) -> Iterator[None]:
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


def place(group: bytes, seed: int) -> float:
    """Where a group falls between 0 and 1: by chance, but whatever it is beside, and on every machine the same."""
    return int.from_bytes(hashlib.blake2b(group, key=str(seed).encode(), digest_size=6).digest()) / 2**48


def split(count: int, seed: int, groups: Sequence[bytes] | None = None) -> tuple[list[int], list[int]]:
    """The indices of the rows to fit on and of those held out, both in the order of their places.

    Held out is whose place is below `HELD_OUT`, so that a row stays on its side when others are added. Only where that
    is less than half of the share, as it may be among few rows, the next ones are held out too until it is the share.

    Args:
        groups: of each row, what it is never split from; without it a row is known by its number.

    Raises:
        ValueError: there are too few rows.
    """
    members = _members([b"%d" % row for row in range(count)] if groups is None else groups)
    if len(members) < 3:
        raise ValueError(f"{count} rows are too few to train on: at least 3 that differ are needed")
    places = {group: place(group, seed) for group in members}
    ordered = sorted(places, key=places.__getitem__)
    few = sum(len(members[group]) for group in ordered if places[group] < HELD_OUT) < count * HELD_OUT / 2
    held_out: list[int] = []
    taken = 0
    for group in ordered[:-1]:
        if len(held_out) >= count * HELD_OUT if few else places[group] >= HELD_OUT:
            break
        held_out.extend(members[group])
        taken += 1
    return [row for group in ordered[taken:] for row in members[group]], held_out


def folds(groups: Sequence[Hashable], count: int, seed: int) -> list[Fold]:
    """Parts of about equal size, each measured on in turn; rows of one group are in one part.

    Raises:
        ValueError: there are fewer groups than parts.
    """
    members = list(_members(groups).values())
    if len(members) < count:
        raise ValueError(f"{len(members)} different rows are too few for {count} folds")
    parts: list[list[int]] = [[] for _ in range(count)]
    for index in np.random.default_rng(seed).permutation(len(members)).tolist():
        min(parts, key=len).extend(members[index])
    return [([row for other in parts if other is not part for row in other], part) for part in parts]


def cross_validation(groups: Sequence[Hashable], seed: int) -> list[Fold]:
    """The folds that candidates are compared on: five, on other folds again if there are few rows."""
    repeats = REPEATS if len(groups) < FEW_ROWS else 1
    return [fold for repeat in range(repeats) for fold in folds(groups, FOLDS, seed + repeat)]


def score(
    model_class: type[MLEModel],
    rows: Sequence[Any],
    labels: Sequence[Any],
    fold: Fold,
    fit: Callable[[MLEModel, list[Any], list[Any]], None],
) -> dict[str, float]:
    """The metrics of one fold.

    Raises:
        ValueError: a metric is no finite number.
    """
    fitting, measuring = fold
    model = model_class()
    fit(model, [rows[index] for index in fitting], [labels[index] for index in fitting])
    return measure(model, [rows[index] for index in measuring], [labels[index] for index in measuring])


def measure(model: MLEModel, rows: Sequence[Any], labels: Sequence[Any]) -> dict[str, float]:
    """The metrics of a fitted model on rows.

    Raises:
        ValueError: a metric is no finite number, or the primary one is missing.
    """
    return _checked(model, model.evaluate(model.predict(rows), labels))


def of_folds(scores: Sequence[Mapping[str, float]]) -> dict[str, Estimate]:
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


def of_held_out(model: MLEModel, predictions: Sequence[Any], labels: Sequence[Any], seed: int) -> dict[str, Estimate]:
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


def rows_per_second(model: MLEModel, rows: Sequence[Any], seconds: float = 0.1) -> dict[str, int]:
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


def group_of(group: str | None, row: Any) -> bytes:
    """What a row must not be split from: its group, or else the rows that equal it, wherever they were found."""
    return msgspec.json.encode(row, order="sorted") if group is None else b"group " + group.encode()


def _members(groups: Sequence[_Group]) -> dict[_Group, list[int]]:
    """The rows of each group, groups in the order in which they are first seen."""
    found: dict[_Group, list[int]] = {}
    for index, group in enumerate(groups):
        found.setdefault(group, []).append(index)
    return found


def _checked(model: MLEModel, metrics: Mapping[str, float]) -> dict[str, float]:
    found = {name: float(value) for name, value in metrics.items()}
    if model.primary_metric not in found:
        raise ValueError(f"evaluate() gives no {model.primary_metric}, which is the primary metric")
    if bad := sorted(name for name, value in found.items() if not math.isfinite(value)):
        raise ValueError(f"{', '.join(bad)} is no finite number")
    return found
