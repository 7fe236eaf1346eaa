"""Permutation tests of any metric: has it degraded, and is one model better than another?

Nothing is assumed about the metric. The p-value is the share of random permutations of the rows with a difference at
least as large as the observed one. It is exact for any number of rows, if the rows (or their groups, where a test takes
them) are independent of each other.
"""

import math
from collections.abc import Callable, Hashable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.evaluation.metrics import evaluate_sample
from machine_learning_engineering.evaluation.splits import group_codes

_STOP_AFTER_EXCEEDANCES = 4
"""Permutations at least as extreme as the observation after which a test stops, because it can't become significant.

The p-value is valid for any number. A larger one has slightly more power, at a proportional cost for significant tests.
"""


class PermutationTest(Struct, frozen=True):
    """One-sided comparison of a metric, where greater is better, between two sets of rows or two models.

    `p_value` is the probability under the null hypothesis of an `observed` value that is at least this much lower
    (`test_degradation`) or higher (`paired_permutation_test`) than `reference`.
    """

    metric: str
    reference: float
    observed: float
    reference_rows: int
    rows: int
    p_value: float
    significant: bool
    n_permutations: int


def test_degradation(
    model: Model,
    reference: Sequence[tuple[Any, Any]],
    live: Sequence[tuple[Any, Any]],
    *,
    significance: float,
    seed: int,
) -> PermutationTest:
    """Test whether the primary metric is lower on live rows than on reference rows.

    Null hypothesis: all pairs are from one distribution. Each permutation shuffles the n + m pairs and splits them
    again into sets of n and m. The statistic is metric(reference) - metric(live).

    Args:
        reference: n pairs of prediction and label.
        live: m pairs of prediction and label.

    Raises:
        ValueError: The metric is undefined on one of the sets.
    """
    pairs, size = [*reference, *live], len(reference)
    before, now = _finite(model, reference, "held-out"), _finite(model, live, "live")
    random = np.random.default_rng(seed)

    def permute() -> float:
        order = random.permutation(len(pairs)).tolist()
        return _metric(model, [pairs[i] for i in order[:size]]) - _metric(model, [pairs[i] for i in order[size:]])

    p_value, count = _p_value(before - now, permute, significance)
    return PermutationTest(model.primary_metric, before, now, size, len(live), p_value, p_value <= significance, count)


def paired_permutation_test(
    model: Model,
    champion: Sequence[Any],
    challenger: Sequence[Any],
    labels: Sequence[Any],
    *,
    significance: float,
    seed: int,
    groups: Sequence[Hashable] | None = None,
) -> PermutationTest:
    """Test whether a challenger's predictions are better than a champion's for the same rows.

    Null hypothesis: the two models are exchangeable. Each permutation swaps their predictions in each group of rows
    with probability 1/2. The statistic is metric(challenger) - metric(champion).

    Args:
        champion: Shape (n,), like `challenger` and `labels`.
        groups: Group of each row, shape (n,); by default each row is its own.

    Raises:
        ValueError: The metric is undefined for one of the models.
    """
    before = _finite(model, list(zip(champion, labels, strict=True)), "champion's")
    now = _finite(model, list(zip(challenger, labels, strict=True)), "challenger's")
    random = np.random.default_rng(seed)
    both = list(zip(champion, challenger, labels, strict=True))
    codes = group_codes(range(len(both)) if groups is None else groups)

    def permute() -> float:
        swapped = (random.random(int(codes.max()) + 1) < 0.5)[codes].tolist()
        one = [(b if swap else a, label) for (a, b, label), swap in zip(both, swapped, strict=True)]
        other = [(a if swap else b, label) for (a, b, label), swap in zip(both, swapped, strict=True)]
        return _metric(model, other) - _metric(model, one)

    p_value, count = (1.0, 0) if now <= before else _p_value(now - before, permute, significance)
    rows = len(labels)
    return PermutationTest(model.primary_metric, before, now, rows, rows, p_value, p_value <= significance, count)


def _p_value(observed: float, permute: Callable[[], float], significance: float) -> tuple[float, int]:
    """Sequential Monte Carlo p-value and the number of permutations that it took.

    Sampling stops at the h-th exceedance (h = `_STOP_AFTER_EXCEEDANCES`) with p = h / n after n permutations, or else
    after N = ceil(h / significance) - 1 with p = (exceedances + 1) / (N + 1). Under the null hypothesis
    P(p <= alpha) <= alpha in both cases.

    Source: J. Besag and P. Clifford, Sequential Monte Carlo p-values, Biometrika 78, 1991.
    """
    limit = math.ceil(_STOP_AFTER_EXCEEDANCES / significance) - 1
    exceedances = 0
    for count in range(1, limit + 1):
        # An undefined metric (NaN) counts as an exceedance, which is conservative.
        exceedances += not permute() < observed
        if exceedances == _STOP_AFTER_EXCEEDANCES:
            return _STOP_AFTER_EXCEEDANCES / count, count
    return (exceedances + 1) / (limit + 1), limit


def _metric(model: Model, pairs: Sequence[tuple[Any, Any]]) -> float:
    metrics = evaluate_sample(model, [prediction for prediction, _ in pairs], [label for _, label in pairs])
    return metrics.get(model.primary_metric, math.nan)


def _finite(model: Model, pairs: Sequence[tuple[Any, Any]], whose: str) -> float:
    if not math.isfinite(found := _metric(model, pairs)):
        raise ValueError(
            f"the {whose} {model.primary_metric} of model `{model.name}` is undefined for {len(pairs)} rows"
        )
    return found
