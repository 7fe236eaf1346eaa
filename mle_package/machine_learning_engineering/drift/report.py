"""Drift report: effect sizes and tests of all fields of a window, with one family-wise false alarm rate.

Each field has several tests: its bins (chi-square), the shares of missing, zero and unseen values, numbers out of the
reference's range, and the words of a text. Holm's correction covers all of them: the probability of any alarm in a
window from the same distribution as the reference is at most `significance`. Rows must be independent of each other; a
thousand copies of one row are one row.

In large windows every small difference is significant. So an alarm also needs a population stability index (PSI) of at
least `min_psi`; see `statistics.psi` for the usual limits.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Literal

import numpy as np
from msgspec import Struct
from msgspec.structs import asdict

from machine_learning_engineering.core.frames import make_frame
from machine_learning_engineering.drift.profile import CategoryCounts, Field, NumericHistogram, Profile, TextCounts
from machine_learning_engineering.drift.statistics import chi_square, holm, hypergeometric_test, psi

DEFAULT_MIN_PSI = 0.1

_DTYPES = dict.fromkeys(("field", "statistic", "detail"), "string") | {"drifted": "bool"}
_DTYPES |= dict.fromkeys(("psi", "p_value", "p_adjusted"), "float64")

Statistic = Literal["distribution", "missing", "zeros", "unseen", "out_of_range", "length", "known_words", "words"]


class _RawTest(Struct, frozen=True):
    field: str
    statistic: Statistic
    psi: float
    p_value: float
    detail: str = ""


class DriftTest(_RawTest, frozen=True, kw_only=True):
    """One test of one field, such as ``features.carat`` or ``predictions.price``.

    `detail` is the word that differs most ("words"), or the side, "below" or "above" ("out_of_range").
    """

    p_adjusted: float
    drifted: bool


class DriftReport(Struct, frozen=True):
    """All tests of a window, the strongest evidence first, and the fields that drifted in any test."""

    rows: int
    significance: float
    min_psi: float
    drifted: list[str]
    tests: list[DriftTest]

    def to_pandas(self) -> Any:
        """The tests as a DataFrame of pandas, one row each, in their order; `rows`, `significance`, `min_psi` and
        `drifted` are in its ``attrs``.

        Raises:
            ImportError: pandas is not installed.
        """
        columns = {name: [getattr(test, name) for test in self.tests] for name in DriftTest.__struct_fields__}
        frame = make_frame(columns, _DTYPES)
        frame.attrs |= {name: getattr(self, name) for name in ("rows", "significance", "min_psi", "drifted")}
        return frame


class Rates(Struct, frozen=True):
    """Shares of a field's rows with a missing value, an unseen value, and a number out of the reference's range.

    A text is unseen if none of its words is known.
    """

    missing: float
    unseen: float
    out_of_range: float


def drift(
    reference: Profile, window: Profile, *, significance: float = 0.01, min_psi: float = DEFAULT_MIN_PSI
) -> DriftReport:
    """Compare a window with the reference that it was counted with (`binning.count_into`).

    Args:
        significance: Family-wise false alarm rate of the window.
        min_psi: Minimum effect size of an alarm.
    """
    found = [
        *_tests("features", reference.features, window.features),
        *_tests("predictions", reference.predictions, window.predictions),
    ]
    adjusted = holm([test.p_value for test in found])
    tests = [
        DriftTest(
            **asdict(test) | {"psi": round(test.psi, 6)},
            p_adjusted=p,
            drifted=p < significance and test.psi >= min_psi,
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
    """Shares of unusual values in a window's field; all 0 if it has no rows."""
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
        elif isinstance(one, TextCounts) and isinstance(other, TextCounts):
            yield from _bins(field, "length", one.length, other.length)
            yield from _bins(field, "known_words", one.known, other.known)
            yield from _words(field, one.words, one.rows, other.words, other.rows)


def _bins(field: str, statistic: Statistic, one: NumericHistogram, other: NumericHistogram) -> Iterator[_RawTest]:
    if sum(one.counts) and sum(other.counts):
        yield _compared(field, statistic, [one.zeros, *one.counts], [other.zeros, *other.counts])


def _range(field: str, one: NumericHistogram, other: NumericHistogram) -> Iterator[_RawTest]:
    """Test the side with more values out of range.

    The reference has none there by construction, but the test is exact: under the null hypothesis the largest values of
    both samples together are equally likely to be from any row.
    """
    below, above = _out_of_range(one, other)
    if below or above:
        sides = np.array([below, above])
        p_values = hypergeometric_test(np.zeros(2, dtype=np.int64), one.rows, sides, other.rows)
        index = int(p_values.argmin())
        outside = int(sides[index])
        size = psi([0, one.rows], [outside, other.rows - outside])
        yield _RawTest(field, "out_of_range", size, min(1.0, 2 * float(p_values[index])), ("below", "above")[index])


def _out_of_range(reference: NumericHistogram, window: NumericHistogram) -> tuple[int, int]:
    """Number of a window's values below the reference's minimum and above its maximum.

    Zeros are not in the bins: the first bin is below all other values of the reference, the last above them.
    """
    low, high = reference.minimum, reference.maximum
    if low is None or high is None:
        return 0, 0
    below = window.counts[0] if reference.edges else 0
    # The last bin of a reference holds values only if it has infinities; then nothing is above them.
    above = window.counts[-1] if not reference.counts[-1] else 0
    return below + window.zeros * (low > 0), above + window.zeros * (high < 0)


def _compared(field: str, statistic: Statistic, one: list[int], other: list[int]) -> _RawTest:
    return _RawTest(field, statistic, psi(one, other), chi_square(one, other))


def _share(field: str, statistic: Statistic, one: int, rows: int, other: int, others: int) -> Iterator[_RawTest]:
    if one or other:
        (p_value,) = hypergeometric_test(np.array([one]), rows, np.array([other]), others).tolist()
        yield _RawTest(field, statistic, psi([one, rows - one], [other, others - other]), p_value)


def _words(field: str, one: dict[str, int], rows: int, other: dict[str, int], others: int) -> Iterator[_RawTest]:
    """Test the word that differs most; its p-value is corrected for the number of words (Bonferroni)."""
    if not one:
        return
    words = list(one)
    p_values = hypergeometric_test(np.array([one[w] for w in words]), rows, np.array([other[w] for w in words]), others)
    index = int(p_values.argmin())
    word = words[index]
    size = psi([one[word], rows - one[word]], [other[word], others - other[word]])
    yield _RawTest(field, "words", size, min(1.0, float(p_values[index]) * len(words)), word)
