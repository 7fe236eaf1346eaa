"""Confidence sequences for means: intervals that hold at all times at once, from counts, means and variances."""

import math

from msgspec import Struct

from machine_learning_engineering.evaluation.moments import Moments

MIN_COUNT = 100
"""Numbers of each sample before its variance is trusted: the sequences are asymptotic."""
_TUNED_FOR = 500
"""Numbers at which the intervals are narrowest; at 50,000 they are a fifth wider than they could be."""


class Estimate(Struct, frozen=True):
    """A mean, or a difference of two, with its standard error; `size` is the number of independent values behind it."""

    value: float
    error: float
    size: float

    def lower(self, alpha: float) -> float:
        """What the true value exceeds; false at any time, ever, with probability at most alpha."""
        return self.value - anytime_z(self.size, alpha) * self.error

    def upper(self, alpha: float) -> float:
        """What the true value is below; false at any time, ever, with probability at most alpha."""
        return self.value + anytime_z(self.size, alpha) * self.error


def anytime_z(size: float, alpha: float) -> float:
    """How many standard errors the mean of n values strays from the truth in one direction, at any time.

    The normal mixture, one-sided: with s = n * rho^2::

        z = sqrt(2 * (1 + 1 / s) * log(1 + sqrt(s + 1) / (2 * alpha)))
        rho^2 = (-2 log(2 * alpha) + log(1 - 2 log(2 * alpha))) / N

    where the interval is narrowest near n = N. A z of 1.64 for alpha 0.05 holds for one look, this one for all.

    Source: I. Waudby-Smith, D. Arbour, R. Sinha, E. Kennedy and A. Ramdas, Time-uniform central limit theory and
    asymptotic confidence sequences, Annals of Statistics 52, 2024 (theorem 2.2; the one-sided form and the choice of
    rho are in its appendix).

    >>> round(anytime_z(500, 0.05), 2), round(anytime_z(50_000, 0.05), 2)
    (2.78, 3.33)

    Args:
        size: At least 1.
        alpha: Below 1/2.
    """
    chosen = -2 * math.log(min(2 * alpha, 1.0))
    scaled = size * max(chosen + math.log1p(chosen), 1.0) / _TUNED_FOR
    return math.sqrt(2 * (1 + 1 / scaled) * math.log1p(math.sqrt(scaled + 1) / (2 * alpha)))


def paired_excess(differences: Moments, other: Moments, margin: float) -> Estimate | None:
    """By how much a mean loss exceeds the other by more than a share of it, from differences of the same requests.

    The mean of d - margin * l, with differences d and the other's losses l. Nobody knows how d and l are correlated, so
    their standard errors add up. None if there are too few of either, or if they are not finite.

    Args:
        differences: Losses minus the other's losses.
        other: The other's losses; not used if the margin is 0.
    """
    if not usable(differences) or (margin and not usable(other)):
        return None
    value, error = differences.mean, _standard_error(differences)
    if margin:
        value, error = value - margin * other.mean, error + margin * _standard_error(other)
    return Estimate(value, error, differences.count)


def arms_excess(ours: Moments, other: Moments, margin: float) -> Estimate | None:
    """The same from two arms, whose requests differ: the mean of one minus (1 + margin) times that of the other.

    In arms drawn at random, the difference of means is asymptotically the mean of independent influence values, one a
    request, so the same sequence holds. Its size is that of two equal samples with the same information. None if an arm
    has too few, or if they are not finite.

    Source: Waudby-Smith et al., 2024 (section 3: randomized experiments, with the arms' means as regression).
    """
    if not usable(ours) or not usable(other):
        return None
    error = math.hypot(_standard_error(ours), (1 + margin) * _standard_error(other))
    size = ours.count * other.count / (ours.count + other.count)
    return Estimate(ours.mean - (1 + margin) * other.mean, error, size)


def usable(moments: Moments) -> bool:
    """Whether there are enough numbers, and all were finite."""
    return moments.count >= MIN_COUNT and is_finite(moments)


def is_finite(moments: Moments) -> bool:
    """Whether all numbers were finite, and their sums too."""
    return math.isfinite(moments.mean) and math.isfinite(moments.squares) and moments.squares >= 0


def _standard_error(moments: Moments) -> float:
    return math.sqrt(moments.variance / moments.count)
