"""Whether a metric is lower, or a model better, than chance explains: permutation tests that any metric allows.

Nothing is assumed of the metric: how often do rows that are dealt anew at random give a difference as large as the one
observed? The p-value is exact for any number of rows, as long as they are independent of one another.
"""

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from msgspec import Struct

from machine_learning_engineering.core.model import Model

_STOP_AFTER_EXCEEDANCES = 4
"""After so many n_permutations as extreme as what was observed the test stops: it is not going to be significant. The test is
valid with any number; a larger one finds a little more, and takes as many times as long where something has changed."""


class PermutationTest(Struct, frozen=True):
    """A metric of one set of rows (or model) against that of another, the greater being the better.

    `p_value` is one-sided: how often chance makes `observed` so much lower (or, of a challenger, higher) than
    `reference`. It took `n_permutations` to find out.
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
    """Is the primary metric of live rows lower than that of reference rows? Both are pairs of prediction and label.

    Each deal mixes all pairs and parts them anew in sets of the same sizes.

    Raises:
        ValueError: the metric is not defined on one of the sets.
    """
    pairs, size = [*reference, *live], len(reference)
    before, now = _finite(model, reference, "held-out"), _finite(model, live, "live")
    random = np.random.default_rng(seed)

    def permute() -> float:
        order = random.permutation(len(pairs)).tolist()
        return _metric(model, [pairs[i] for i in order[:size]]) - _metric(model, [pairs[i] for i in order[size:]])

    p_value, n_permutations = _p_value(before - now, permute, significance)
    return PermutationTest(
        metric=model.primary_metric,
        reference=before,
        observed=now,
        reference_rows=size,
        rows=len(live),
        p_value=p_value,
        significant=p_value <= significance,
        n_permutations=n_permutations,
    )


def paired_permutation_test(
    model: Model,
    champion: Sequence[Any],
    challenger: Sequence[Any],
    labels: Sequence[Any],
    *,
    significance: float,
    seed: int,
) -> PermutationTest:
    """Are a challenger's predictions better than a champion's for the same rows?

    Each deal exchanges the two predictions of every other row or so, at random.

    Raises:
        ValueError: the metric is not defined on one of them.
    """
    before = _finite(model, list(zip(champion, labels, strict=True)), "champion's")
    now = _finite(model, list(zip(challenger, labels, strict=True)), "challenger's")
    random = np.random.default_rng(seed)
    both = list(zip(champion, challenger, labels, strict=True))

    def permute() -> float:
        exchanged = (random.random(len(both)) < 0.5).tolist()
        one = [(b if swap else a, label) for (a, b, label), swap in zip(both, exchanged, strict=True)]
        other = [(a if swap else b, label) for (a, b, label), swap in zip(both, exchanged, strict=True)]
        return _metric(model, other) - _metric(model, one)

    # Where both answer alike there is nothing that could be better.
    p_value, n_permutations = (1.0, 0) if now <= before else _p_value(now - before, permute, significance)
    return PermutationTest(
        metric=model.primary_metric,
        reference=before,
        observed=now,
        reference_rows=len(labels),
        rows=len(labels),
        p_value=p_value,
        significant=p_value <= significance,
        n_permutations=n_permutations,
    )


def _p_value(observed: float, permute: Callable[[], float], significance: float) -> tuple[float, int]:
    """Besag and Clifford's sequential Monte Carlo test: the p-value is valid whether it stops early or not."""
    most = math.ceil(_STOP_AFTER_EXCEEDANCES / significance) - 1
    extreme = 0
    for n_permutations in range(1, most + 1):
        # A metric that is not defined for a deal speaks against nothing: it counts as extreme.
        extreme += not permute() < observed
        if extreme == _STOP_AFTER_EXCEEDANCES:
            return _STOP_AFTER_EXCEEDANCES / n_permutations, n_permutations
    return (extreme + 1) / (most + 1), most


def _metric(model: Model, pairs: Sequence[tuple[Any, Any]]) -> float:
    with warnings.catch_warnings():
        # scikit-learn warns where a metric is not defined, and gives NaN.
        warnings.simplefilter("ignore")
        try:
            metrics = model.evaluate([prediction for prediction, _ in pairs], [label for _, label in pairs])
        except ValueError:
            return math.nan
    return float(metrics[model.primary_metric])


def _finite(model: Model, pairs: Sequence[tuple[Any, Any]], whose: str) -> float:
    if not math.isfinite(found := _metric(model, pairs)):
        raise ValueError(
            f"the {whose} {model.primary_metric} of model `{model.name}` is not defined for {len(pairs)} rows"
        )
    return found
