"""Whether two arms predict alike: population stability with a limit that small counts do not reach."""

import math
from collections.abc import Sequence

from machine_learning_engineering.drift.statistics import psi


def psi_between(one: Sequence[int], other: Sequence[int]) -> float | None:
    """Population stability index of two arms' predictions, or None if one of them has none or the bins differ."""
    if len(one) != len(other) or not sum(one) or not sum(other):
        return None
    return psi(one, other)


def psi_limit(limit: float, one: Sequence[int], other: Sequence[int], alpha: float) -> float:
    """The limit, widened by what chance adds to the index at these counts.

    Two samples of one population, m and n in k bins, have an index of about (1 / m + 1 / n) * X, where X is chi-square
    with d = k - 1 degrees of freedom. With probability 1 - exp(-x) it is below d + 2 sqrt(d x) + 2 x. Looks are shared
    out over the doublings of the smaller sample: x = log(1 / alpha) + 2 log(1 + its logarithm to base 2).

    Sources: F. Yurdakul and J. Naranjo, Statistical properties of the population stability index, Journal of Risk Model
    Validation 14, 2020 (the distribution); B. Laurent and P. Massart, Adaptive estimation of a quadratic functional by
    model selection, Annals of Statistics 28, 2000 (lemma 1, the bound).

    >>> bins = [50] * 10
    >>> round(psi_limit(0.25, [2] * 10, bins, 0.05), 2), round(psi_limit(0.25, [500] * 10, bins, 0.05), 2)
    (2.17, 0.34)
    """
    m, n = sum(one), sum(other)
    degrees = max(1, sum(1 for a, b in zip(one, other, strict=True) if a or b) - 1)
    x = math.log(1 / alpha) + 2 * math.log1p(math.log2(1 + min(m, n)))
    return limit + (1 / m + 1 / n) * (degrees + 2 * math.sqrt(degrees * x) + 2 * x)
