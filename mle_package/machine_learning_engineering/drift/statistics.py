"""Statistical tests of drift: PSI, chi-square, hypergeometric tails and Holm's correction."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

_EXPECTED = 5.0
"""A chi-square needs about so many expected rows in each bin; rarer bins are put together."""


_TAIL_TERMS = 32
"""So many chances are added up one by one before the rest is bounded: all that matter of a rare event."""


def psi(reference: Sequence[int], window: Sequence[int]) -> float:
    """The population stability index of two samples' counts in the same bins: 0 if their shares are the same.

    Half a row is added to each bin that has any, so that one that is empty on one side does not make it infinite.
    """
    counts = np.array([reference, window], dtype=np.float64)
    one, other = counts[:, counts.any(axis=0)] + 0.5
    one, other = one / one.sum(), other / other.sum()
    return float(((other - one) * np.log(other / one)).sum())


def chi_square(reference: Sequence[int], window: Sequence[int]) -> float:
    """The p-value of two samples' counts in the same bins being of one distribution; 1 if there is nothing to compare.

    Both samples count as samples: a small reference makes small differences less certain. Bins of few expected rows are
    put together, and if too few are left over, with the next rarest bin.
    """
    from scipy.special import chdtrc

    one: NDArray[Any] = np.asarray(reference, dtype=np.float64)
    other: NDArray[Any] = np.asarray(window, dtype=np.float64)
    rows, others = one.sum(), other.sum()
    if not rows or not others:
        return 1.0
    expected = (one + other) / (rows + others) * min(rows, others)
    order = np.argsort(expected, kind="stable")
    # So many of the rarest bins, until they together, and every other one alone, are frequent enough.
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
    """P-values, one an event, of events as frequent in a window's rows as in the reference's: exact, or a little too
    large.

    Given how often an event occurred in all, its occurrences in the window are hypergeometric. The p-value is twice the
    chance of as many as there were, or more; of an event that became rarer, of as many rows without it.
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
    # From the chance of one number of occurrences to that of the next, by a factor below 1 that falls.
    number = other[:, None] + np.arange(_TAIL_TERMS)
    left, room = np.maximum(total[:, None] - number, 0.0), np.maximum(window_rows - number, 0.0)
    factors = left * room / ((number + 1) * (rows - left + 1))
    chances = first[:, None] * factors.cumprod(axis=1)
    # The chances behind the last one fall faster than a geometric series does.
    rest = chances[:, -1] * factors[:, -1] / (1 - factors[:, -1])
    p_values: NDArray[np.float64] = np.minimum(1.0, 2 * (first + chances.sum(axis=1) + rest))
    return p_values


def holm(p_values: Sequence[float]) -> list[float]:
    """P-values adjusted for their number, after Holm: whatever their dependence, the chance that any true hypothesis
    gets a value under alpha is at most alpha."""
    count = len(p_values)
    adjusted, highest = [1.0] * count, 0.0
    for rank, index in enumerate(sorted(range(count), key=p_values.__getitem__)):
        highest = max(highest, min(1.0, p_values[index] * (count - rank)))
        adjusted[index] = highest
    return adjusted
