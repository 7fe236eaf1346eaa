"""Whether rows still look like those of a reference profile: effect sizes, tests, and one stated false alarm rate.

Each field gives several tests: of its bins (chi-square of two samples), of the shares of missing, zero and never seen
values, of numbers out of the reference's range, and of the words of a text. Their p-values are corrected together
(Holm), so that the chance of any alarm in a window that differs from the reference by chance alone is at most
`significance`. Rows must be independent of one another for that to hold: the same row a thousand times is one row.

With many rows every difference, however small, is significant. So an alarm also takes a population stability index
(PSI) of at least `min_psi`; by custom 0.1 is a moderate and 0.25 a large change.
"""

from collections.abc import Iterator, Mapping
from typing import Literal

import numpy as np
from msgspec import Struct

from machine_learning_engineering.drift.profile import CategoryCounts, Field, NumericHistogram, Profile, TextCounts
from machine_learning_engineering.drift.statistics import chi_square, holm, hypergeometric_test, psi

DEFAULT_MIN_PSI = 0.1
"""The PSI from which a significant difference counts."""


Statistic = Literal["distribution", "missing", "zeros", "unseen", "out of range", "length", "known words", "words"]


class DriftTest(Struct, frozen=True):
    """One test of one field: `field` is, for example, ``features.carat`` or ``predictions.price``.

    `detail` names the word that differs most, where words are tested, and the side ("below", "above") of what is out of
    range.
    """

    field: str
    statistic: Statistic
    psi: float
    p_value: float
    p_adjusted: float
    drifted: bool
    detail: str = ""


class DriftReport(Struct, frozen=True):
    """All tests of a window, the most suspicious first. `drifted` are the fields that any test found drifted."""

    rows: int
    significance: float
    min_psi: float
    drifted: list[str]
    tests: list[DriftTest]


class Rates(Struct, frozen=True):
    """Shares of a field's rows: without a value, with one never seen in the reference, and with one out of its range.

    Of a text "unseen" are those with no known word. Only numbers have a range.
    """

    missing: float
    unseen: float
    out_of_range: float


class _RawTest(Struct, frozen=True):
    field: str
    statistic: Statistic
    psi: float
    p_value: float
    detail: str = ""


def drift(
    reference: Profile, window: Profile, *, significance: float = 0.01, min_psi: float = DEFAULT_MIN_PSI
) -> DriftReport:
    """Compare a window, counted with `count_into`, with its reference."""
    found = [
        test
        for section, one, other in (
            ("features", reference.features, window.features),
            ("predictions", reference.predictions, window.predictions),
        )
        for test in _tests(section, one, other)
    ]
    adjusted = holm([test.p_value for test in found])
    tests = [
        DriftTest(
            field=test.field,
            statistic=test.statistic,
            psi=round(test.psi, 6),
            p_value=test.p_value,
            p_adjusted=p,
            drifted=p < significance and test.psi >= min_psi,
            detail=test.detail,
        )
        for test, p in zip(found, adjusted, strict=True)
    ]
    tests.sort(key=lambda test: (not test.drifted, test.p_adjusted, -test.psi))
    return DriftReport(
        rows=max((field.rows for field in (*window.features.values(), *window.predictions.values())), default=0),
        significance=significance,
        min_psi=min_psi,
        drifted=list(dict.fromkeys(test.field for test in tests if test.drifted)),
        tests=tests,
    )


def rates(reference: Field, window: Field) -> Rates:
    """What is conspicuous about a window's field without any test; all 0 without rows."""
    unseen = below = above = 0
    if isinstance(window, CategoryCounts):
        unseen = window.unseen
    elif isinstance(window, TextCounts):
        unseen = window.known.zeros
    elif isinstance(reference, NumericHistogram):
        below, above = _out_of_range(reference, window)
    rows = max(1, window.rows)
    return Rates(window.missing / rows, unseen / rows, (below + above) / rows)


def _tests(section: str, reference: Mapping[str, Field], window: Mapping[str, Field]) -> Iterator[_RawTest]:
    for name, one in reference.items():
        other, field = window[name], f"{section}.{name}"
        if not one.rows or not other.rows:
            continue
        yield from _share(field, "missing", one.missing, one.rows, other.missing, other.rows)
        if isinstance(one, NumericHistogram) and isinstance(other, NumericHistogram):
            yield from _share(field, "zeros", one.zeros, one.rows, other.zeros, other.rows)
            yield from _bins(field, "distribution", one, other)
            yield from _range(field, one, other)
        elif isinstance(one, CategoryCounts) and isinstance(other, CategoryCounts):
            yield from _share(field, "unseen", one.unseen, one.rows, other.unseen, other.rows)
            yield _compared(field, "distribution", list(one.counts.values()), list(other.counts.values()))
        elif not isinstance(one, NumericHistogram | CategoryCounts) and not isinstance(
            other, NumericHistogram | CategoryCounts
        ):
            yield from _bins(field, "length", one.length, other.length)
            yield from _bins(field, "known words", one.known, other.known)
            yield from _words(field, one.words, one.rows, other.words, other.rows)


def _bins(field: str, statistic: Statistic, one: NumericHistogram, other: NumericHistogram) -> Iterator[_RawTest]:
    if sum(one.counts) and sum(other.counts):
        yield _compared(field, statistic, [one.zeros, *one.counts], [other.zeros, *other.counts])


def _range(field: str, one: NumericHistogram, other: NumericHistogram) -> Iterator[_RawTest]:
    """The side that more values are beyond. The reference has none there by its making, yet the test is exact: of two
    samples alike the largest values of both together are as likely to be anybody's."""
    below, above = _out_of_range(one, other)
    if below or above:
        sides = np.array([below, above])
        p_values = hypergeometric_test(np.zeros(2, dtype=np.int64), one.rows, sides, other.rows)
        index = int(p_values.argmin())
        outside = int(sides[index])
        size = psi([0, one.rows], [outside, other.rows - outside])
        yield _RawTest(field, "out of range", size, min(1.0, 2 * float(p_values[index])), ("below", "above")[index])


def _out_of_range(reference: NumericHistogram, window: NumericHistogram) -> tuple[int, int]:
    """How many of a window's numbers are below, and how many above all of the reference's.

    Zeros are counted apart: of the others the first bin is below and the last above all of the reference's others.
    """
    low, high = reference.minimum, reference.maximum
    if low is None or high is None:
        return 0, 0
    below = window.counts[0] if reference.edges else 0
    # A bin that the reference has values in is not above them: so it is if one of them was infinite.
    above = window.counts[-1] if not reference.counts[-1] else 0
    return below + window.zeros * (low > 0), above + window.zeros * (high < 0)


def _compared(field: str, statistic: Statistic, one: list[int], other: list[int]) -> _RawTest:
    return _RawTest(field, statistic, psi(one, other), chi_square(one, other))


def _share(field: str, statistic: Statistic, one: int, rows: int, other: int, others: int) -> Iterator[_RawTest]:
    if one or other:
        (p_value,) = hypergeometric_test(np.array([one]), rows, np.array([other]), others).tolist()
        yield _RawTest(field, statistic, psi([one, rows - one], [other, others - other]), p_value)


def _words(field: str, one: dict[str, int], rows: int, other: dict[str, int], others: int) -> Iterator[_RawTest]:
    """The word that differs most; its p-value counts for all of them."""
    if not one:
        return
    words = list(one)
    p_values = hypergeometric_test(np.array([one[w] for w in words]), rows, np.array([other[w] for w in words]), others)
    index = int(p_values.argmin())
    word = words[index]
    size = psi([one[word], rows - one[word]], [other[word], others - other[word]])
    yield _RawTest(field, "words", size, min(1.0, float(p_values[index]) * len(words)), word)
