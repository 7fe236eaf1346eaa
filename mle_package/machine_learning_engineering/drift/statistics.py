"""Statistics of drift: population stability index, chi-square, hypergeometric tails and Holm's correction."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXPECTED = 5.0
"""Minimum expected count of a bin in a chi-square test; rarer bins are merged."""
_TAIL_TERMS = 32
"""Terms of a hypergeometric tail that are summed exactly; the rest is bounded by a geometric series."""


def psi(reference: Sequence[int], window: Sequence[int]) -> float:
    """Population stability index of two samples, counted in the same bins.

    With p_i and q_i the shares of bin i in the two samples and the natural logarithm::

        PSI = sum_i (q_i - p_i) * ln(q_i / p_i)

    0.5 is added to each count, so a bin that is empty in one sample stays finite. Bins that are empty in both are
    ignored. By convention a PSI below 0.1 is no relevant change and one above 0.25 a large change.

    Source of the convention: N. Siddiqi, Credit Risk Scorecards, 2006.

    >>> round(psi([500, 500], [600, 400]), 4)
    0.0405

    Args:
        reference: Shape (bins,).
        window: Shape (bins,).
    """
    counts = np.array([reference, window], dtype=np.float64)
    one, other = counts[:, counts.any(axis=0)] + 0.5
    one, other = one / one.sum(), other / other.sum()
    return float(((other - one) * np.log(other / one)).sum())


def chi_square(reference: Sequence[int], window: Sequence[int]) -> float:
    """P-value of the chi-square test that two samples, counted in the same bins, have the same distribution.

    With counts R_i and S_i, their totals R and S, and k bins, the statistic has k - 1 degrees of freedom::

        chi2 = sum_i (sqrt(S / R) * R_i - sqrt(R / S) * S_i)^2 / (R_i + S_i)

    The sampling error of the reference is included. Rows must be independent. Bins with fewer than 5 expected rows in
    the smaller sample are merged, if necessary with the next rarest bin. With fewer than two bins left the result is 1.

    Source: W. H. Press et al., Numerical Recipes, section "Are Two Distributions Different?", for two binned samples of
    unequal size.

    >>> round(chi_square([120, 300, 80], [30, 60, 35]), 4)
    0.0057

    Args:
        reference: Shape (bins,).
        window: Shape (bins,).
    """
    from scipy.special import chdtrc

    one: NDArray[Any] = np.asarray(reference, dtype=np.float64)
    other: NDArray[Any] = np.asarray(window, dtype=np.float64)
    rows, others = one.sum(), other.sum()
    if not rows or not others:
        return 1.0
    expected = (one + other) / (rows + others) * min(rows, others)
    order = np.argsort(expected, kind="stable")
    # Number of rarest bins to merge: all that are too rare, and more until their sum is frequent enough.
    together = max(int((expected < _EXPECTED).sum()), int(np.searchsorted(expected[order].cumsum(), _EXPECTED)) + 1)
    groups = np.maximum(np.arange(len(order)) - together + 1, 0)
    one = np.bincount(groups, weights=one[order])
    other = np.bincount(groups, weights=other[order])
    if len(one) < 2:
        return 1.0
    scale = np.sqrt(others / rows)
    statistic = float(((one * scale - other / scale) ** 2 / (one + other)).sum())
    return float(chdtrc(len(one) - 1, statistic))


def hypergeometric_test(
    reference: NDArray[np.int64], rows: int, window: NDArray[np.int64], window_rows: int
) -> NDArray[np.float64]:
    """Two-sided p-values that each of k events is as frequent in a window as in the reference (Fisher's exact test).

    Given the total number K of occurrences in both samples, the number X in the window is hypergeometric under the null
    hypothesis, and p = 2 * P(X >= x), at most 1. For an event that became rarer, the rows without it are counted. Rows
    must be independent. The tail beyond `_TAIL_TERMS` terms is bounded from above, so p is exact or slightly too large.

    Source: R. A. Fisher, The Logic of Inductive Inference, Journal of the Royal Statistical Society 98, 1935.

    >>> hypergeometric_test(np.array([10, 50]), 1_000, np.array([9, 5]), 100).round(6).tolist()
    [2.6e-05, 1.0]

    Args:
        reference: Occurrences in the reference, shape (k,).
        rows: Rows of the reference.
        window: Occurrences in the window, shape (k,).
        window_rows: Rows of the window.

    Returns:
        Shape (k,).
    """
    from scipy.special import betaln

    one, other = reference.astype(np.float64), window.astype(np.float64)
    if not rows or not window_rows:
        return np.ones(len(one))
    rarer = other * rows < one * window_rows
    one, other = np.where(rarer, rows - one, one), np.where(rarer, window_rows - other, other)
    total, all_rows = one + other, rows + window_rows

    def log_choose(of: Any, taken: Any) -> Any:
        return -np.log1p(of) - betaln(of - taken + 1, taken + 1)

    first = np.exp(log_choose(rows, one) + log_choose(window_rows, other) - log_choose(all_rows, total))
    # P(X = x + 1) / P(X = x) is below 1 and decreases.
    number = other[:, None] + np.arange(_TAIL_TERMS)
    left, free = np.maximum(total[:, None] - number, 0.0), np.maximum(window_rows - number, 0.0)
    factors = left * free / ((number + 1) * (rows - left + 1))
    chances = first[:, None] * factors.cumprod(axis=1)
    # The remaining terms decrease faster than a geometric series.
    rest = chances[:, -1] * factors[:, -1] / (1 - factors[:, -1])
    p_values: NDArray[np.float64] = np.minimum(1.0, 2 * (first + chances.sum(axis=1) + rest))
    return p_values


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted by Holm's step-down method.

    With p sorted ascending, the adjusted value of rank i of m is max_{j <= i} min(1, (m - j + 1) * p_j). The
    probability that any true hypothesis has a value below alpha is at most alpha, for any dependence of the tests.

    Source: S. Holm, A Simple Sequentially Rejective Multiple Test Procedure, Scandinavian J. of Statistics 6, 1979.

    >>> holm([0.01, 0.04, 0.03])
    [0.03, 0.06, 0.06]
    """
    count = len(p_values)
    adjusted, highest = [1.0] * count, 0.0
    for rank, index in enumerate(sorted(range(count), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[index] * (count - rank)))
        adjusted[index] = highest
    return adjusted
