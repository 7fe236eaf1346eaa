"""E-processes for rates: evidence against a hypothesis that may be looked at after every request.

An e-process starts at 1, and while the hypothesis is true it reaches 1 / alpha with probability at most alpha, at any
time (Ville's inequality). It is a bet against the hypothesis: the factor by which the stake has grown. Whoever stops
when it reaches 1 / alpha, and looks as often as they like before, is wrong with probability at most alpha.

Sources: J. Ville, Étude critique de la notion de collectif, 1939; H. Robbins, Statistical methods related to the law of
the iterated logarithm, Annals of Mathematical Statistics 41, 1970 (mixtures); A. Ramdas, P. Grünwald, V. Vovk and
G. Shafer, Game-theoretic statistics and safe anytime-valid inference, Statistical Science 38, 2023 (sections 2 and 3).

All functions return natural logarithms, which do not overflow. Counts are k of n trials, n at least k.
"""

import math
from typing import NamedTuple

_STRENGTH = 2.0
"""Weight of the mixtures: they expect rates of the limit's order of magnitude, not of any size."""
_RARE = 99.0
"""Half of the weight of a failure rate is near one in this number."""
_LARGEST = 700.0


def log_evidence_above(successes: int, trials: int, limit: float) -> float:
    """Evidence that a rate exceeds a limit, against the hypothesis that it does not.

    With weights w over rates p above the limit q, a beta distribution with parameters a and b that is cut off at q::

        e = integral over p in (q, 1) of  (p / q)^k * ((1 - p) / (1 - q))^(n - k) * w(p) dp
          = B(a + k, b + n - k; q) / B(a, b; q) / (q^k * (1 - q)^(n - k))

    where B(a, b; q) is the upper incomplete beta function. If each trial succeeds with a probability of at most q given
    the trials before, no factor has an expectation above 1, so e is a supermartingale: exact for every n. At a
    probability of exactly q it is a martingale.

    With q = 1/2, trials are pairs in which two versions differ and successes are those that one of them wins: the
    anytime-valid sign test.

    Source: Robbins, 1970; S. Howard, A. Ramdas, J. McAuliffe and J. Sekhon, Time-uniform, nonparametric, nonasymptotic
    confidence sequences, Annals of Statistics 49, 2021 (section 3.1, one-sided beta-binomial mixture).

    >>> round(math.exp(log_evidence_above(15, 18, 0.5)), 1), round(math.exp(log_evidence_above(9, 18, 0.5)), 2)
    (30.8, 0.41)

    Args:
        limit: Between 0 and 1.
    """
    a, b = _STRENGTH, _STRENGTH * (1 - limit) / limit
    k, others = successes, trials - successes
    gained = log_upper_beta(limit, a + k, b + others) - log_upper_beta(limit, a, b)
    return gained - k * math.log(limit) - others * math.log1p(-limit)


def log_evidence_below(successes: int, trials: int, limit: float) -> float:
    """Evidence that a rate is below a limit, against the hypothesis that it is not: the mirror of the one above."""
    return log_evidence_above(trials - successes, trials, 1 - limit)


def log_evidence_of_other_share(ours: int, theirs: int, share: float) -> float:
    """Evidence that trials are not divided by this share, in either direction: the sequential sample-ratio check.

    With a beta distribution around the share q as weights of p::

        e = B(a + k, b + n - k) / B(a, b) / (q^k * (1 - q)^(n - k))

    Source: M. Lindon and A. Malek, Anytime-valid inference for multinomial count data, NeurIPS 2022 (equation 4, with
    two categories).

    >>> log_evidence_of_other_share(100, 900, 0.1) < 0 < log_evidence_of_other_share(200, 800, 0.1)
    True

    Args:
        share: Of `ours`, between 0 and 1.
    """
    a, b = (
        (_STRENGTH, _STRENGTH * (1 - share) / share) if share <= 0.5 else (_STRENGTH * share / (1 - share), _STRENGTH)
    )
    gained = log_beta(a + ours, b + theirs) - log_beta(a, b)
    return gained - ours * math.log(share) - theirs * math.log1p(-share)


class Counted(NamedTuple):
    """Successes, and the trials that they are of."""

    successes: int
    trials: int

    @property
    def rate(self) -> float:
        """The share of successes; 0 without trials."""
        return self.successes / self.trials if self.trials else 0.0


def log_evidence_of_excess(ours: Counted, other: Counted, margin: float = 0.0, ratio: float = 1.0) -> float:
    """Evidence that p > ratio * p' + margin for the rates p of one arm and p' of another, against the opposite.

    A mixture over both rates relative to the best that the hypothesis can say::

        e = m(k, n) * m(k', n') / max of p^k (1 - p)^(n - k) p'^k' (1 - p')^(n' - k') over p <= ratio * p' + margin
        m(k, n) = 1/2 * B(k + 1/2, n - k + 1/2) / B(1/2, 1/2) + 1/2 * B(k + 1, n - k + 99) / B(1, 99)

    Half of the weight is Jeffreys', for any rate, the other half expects rates near 1 %, as failures have. Whatever
    the two rates are, the mixture relative to *their* likelihood is a martingale, and e is no larger if the hypothesis
    holds for them: exact for all counts, in whatever order the arms get their requests.

    Source: L. Wasserman, A. Ramdas and S. Balakrishnan, Universal inference, PNAS 117, 2020 (sequential, by the method
    of mixtures).

    >>> round(log_evidence_of_excess(Counted(60, 1_000), Counted(20, 1_000)), 1)
    4.3

    Args:
        margin: At least 0, below 1.
        ratio: Above 0.
    """
    counts = (ours.successes, ours.trials - ours.successes, other.successes, other.trials - other.successes)
    mixed = _log_mixture(*counts[:2]) + _log_mixture(*counts[2:])
    rate, base = ours.rate, other.rate
    if rate > ratio * base + margin:
        base = _likeliest_base(*counts, margin, ratio)
        rate = ratio * base + margin
    best = _log_likelihood(counts[0], counts[1], rate) + _log_likelihood(counts[2], counts[3], base)
    return mixed - best


def _log_mixture(successes: int, misses: int) -> float:
    """The probability of an arm's trials, in their order, over all rates that the mixture expects."""
    any_rate = log_beta(successes + 0.5, misses + 0.5) - math.log(math.pi)
    small_rate = log_beta(successes + 1, misses + _RARE) + math.log(_RARE)
    return max(any_rate, small_rate) + math.log1p(math.exp(-abs(any_rate - small_rate))) - math.log(2)


def _likeliest_base(k: int, misses: int, other_k: int, other_misses: int, margin: float, ratio: float) -> float:
    """The p' that maximizes the likelihood of both with p = ratio * p' + margin, by bisection of its slope."""
    low, high = 0.0, min(1.0, (1 - margin) / ratio)
    for _ in range(60):
        base = (low + high) / 2
        rate = ratio * base + margin
        slope = ratio * (_per(k, rate) - _per(misses, 1 - rate)) + _per(other_k, base) - _per(other_misses, 1 - base)
        low, high = (base, high) if slope > 0 else (low, base)
    return (low + high) / 2


def _per(count: int, rate: float) -> float:
    return count / max(rate, 1e-300) if count else 0.0


def _log_likelihood(successes: int, misses: int, rate: float) -> float:
    """Of independent trials; 0 * log(0) is 0."""
    found = successes * math.log(max(rate, 1e-300)) if successes else 0.0
    return found + (misses * math.log1p(-min(rate, 1 - 1e-16)) if misses else 0.0)


def evidence(logarithm: float) -> float:
    """The factor itself, at most e^700."""
    return math.exp(min(logarithm, _LARGEST))


def log_beta(a: float, b: float) -> float:
    """Logarithm of the beta function, the integral of t^(a - 1) (1 - t)^(b - 1) from 0 to 1."""
    return math.lgamma(a) + math.lgamma(b) - math.lgamma(a + b)


def log_upper_beta(x: float, a: float, b: float) -> float:
    """Logarithm of the upper incomplete beta function: the same integral from x to 1.

    Source: the continued fraction 8.17.22 of the NIST Digital Library of Mathematical Functions, evaluated by the
    modified method of W. J. Lentz, Applied Optics 15, 1976.

    >>> round(math.exp(log_upper_beta(0.25, 2, 1)), 5)  # The integral of t.
    0.46875

    Args:
        x: Between 0 and 1.
        a: Above 0.
        b: Above 0.
    """
    if x >= (a + 1) / (a + b + 2):  # The upper part is the smaller one, and its fraction converges.
        return _log_lower_beta(1 - x, b, a)
    whole = log_beta(a, b)
    return whole + math.log1p(-min(math.exp(_log_lower_beta(x, a, b) - whole), 1 - 1e-16))


def _log_lower_beta(x: float, a: float, b: float) -> float:
    """Logarithm of the integral from 0 to x, for x up to (a + 1) / (a + b + 2)."""
    tiny = 1e-300
    c, d = 1.0, 1 / _away_from_zero(1 - (a + b) * x / (a + 1), tiny)
    fraction = d
    for m in range(1, 10_000):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        for term in (even, odd):
            d = 1 / _away_from_zero(1 + term * d, tiny)
            c = _away_from_zero(1 + term / c, tiny)
            fraction *= c * d
        if abs(c * d - 1) < 1e-13:
            break
    return a * math.log(x) + b * math.log1p(-x) - math.log(a) + math.log(fraction)


def _away_from_zero(value: float, tiny: float) -> float:
    return value if abs(value) > tiny else tiny
