"""Profiles from rows: the reference, a window counted in the reference's bins, and the sum of two windows."""

import re
from collections import Counter
from collections.abc import Hashable, Sequence, Set
from typing import Any, TypeVar

import msgspec
import numpy as np
from numpy.typing import NDArray

from machine_learning_engineering.core.model import Model
from machine_learning_engineering.drift.columns import columns, defaults_of
from machine_learning_engineering.drift.profile import (
    BINS,
    CATEGORIES,
    CATEGORY_LENGTH,
    HELD_OUT_BYTES,
    HELD_OUT_FEATURES_BYTES,
    HELD_OUT_ROWS,
    MAX_WORD_LENGTH,
    MAX_WORDS_PER_ROW,
    WORDS,
    CategoryCounts,
    Field,
    HeldOutRow,
    NumericHistogram,
    Profile,
    TextCounts,
)

_WORD = re.compile(r"\w+")
_Row = TypeVar("_Row")


def reference_profile(
    model: Model | type[Model],
    rows: Sequence[Any],
    predictions: Sequence[Any],
    labels: Sequence[Any] = (),
    *,
    held_out: Sequence[Any] = (),
    groups: Sequence[Hashable] = (),
) -> Profile:
    """Profile of a version, with bins chosen from its training data.

    Args:
        rows: Decoded rows of the training set.
        predictions: Predictions for rows that the model was not fitted on; they need not be of `rows`. A model is more
            certain of rows that it was fitted on, so every live window would differ from predictions for those.
        labels: True labels of the rows of `predictions`. Without them `trigger_retraining` can't test the metric.
        held_out: The decoded rows of `predictions`. Without them no later version is promoted without a person.
        groups: The group of each row of `held_out`; by default each is its own.

    Raises:
        ValueError: `labels`, `held_out` or `groups` has another length than `predictions`.
    """
    for name, values in (("labels", labels), ("held-out rows", held_out), ("groups", groups)):
        if len(values) not in (0, len(predictions)):
            raise ValueError(f"{len(values)} {name} do not match {len(predictions)} predictions")
    defaults = defaults_of(model.Features)
    return Profile(
        features={name: _reference(values) for name, values in columns(rows, defaults).items()},
        predictions={name: _reference(values) for name, values in columns(predictions, {}).items()},
        defaults=defaults,
        held_out=_sample(list(zip(_plain(predictions), _plain(labels), strict=True)), HELD_OUT_BYTES) if labels else [],
        held_out_rows=_sample(_held_out_rows(held_out, labels, groups), HELD_OUT_FEATURES_BYTES),
    )


def count_into(reference: Profile, rows: Sequence[Any], predictions: Sequence[Any] = ()) -> Profile:
    """Count rows and predictions in the bins of a reference. Without predictions their counts are all 0."""
    features, answers = columns(rows, reference.defaults), columns(predictions, {})
    return Profile(
        features={n: _count(field, features.get(n, [None] * len(rows))) for n, field in reference.features.items()},
        predictions={
            n: _count(field, answers.get(n, [None] * len(predictions))) for n, field in reference.predictions.items()
        },
        defaults=reference.defaults,
    )


def merge(one: Profile, other: Profile) -> Profile:
    """The sum of two windows of one reference."""
    return Profile(
        features={name: _sum(field, other.features[name]) for name, field in one.features.items()},
        predictions={name: _sum(field, other.predictions[name]) for name, field in one.predictions.items()},
        defaults=one.defaults,
        held_out=one.held_out + other.held_out,
        held_out_rows=one.held_out_rows + other.held_out_rows,
    )


def _reference(values: list[Any]) -> Field:
    present = [value for value in values if value is not None]
    if present and all(isinstance(value, int | float) and not isinstance(value, bool) for value in present):
        return _reference_numbers(_numbers(values))
    counts = Counter(_text(value) for value in present)
    booleans = all(isinstance(value, bool) for value in present)
    few = len(counts) <= min(CATEGORIES, len(present) / 2) and all(len(value) <= CATEGORY_LENGTH for value in counts)
    if booleans or few:
        return CategoryCounts(len(values), len(values) - len(present), 0, dict(counts.most_common()))
    return _reference_text(values)


def _reference_numbers(numbers: NDArray[np.float64]) -> NumericHistogram:
    present = numbers[~np.isnan(numbers) & (numbers != 0)]
    edges: list[float] = []
    if present.size:
        # Quantiles are values of the data, so a number with few values gets a bin for each.
        quantiles = np.quantile(present, np.arange(1, BINS) / BINS, method="inverted_cdf")
        with np.errstate(over="ignore"):
            above = float(np.nextafter(present.max(), np.inf))
        edges = [edge for edge in sorted({float(present.min()), *quantiles.tolist(), above}) if np.isfinite(edge)]
    return _count_numbers(edges, numbers)


def _reference_text(values: list[Any]) -> TextCounts:
    choosing, counted = [_words(value) for value in values[1::2]], values[::2]
    frequency = Counter(word for words in choosing for word in set(words))
    most = sorted(frequency.items(), key=lambda item: (-item[1], item[0]))[:WORDS]
    words = [word for word, count in most if count > 1]
    known = set(words)
    length, share = _measures([_words(value) if value is not None else None for value in counted], known)
    empty = TextCounts(0, 0, dict.fromkeys(words, 0), _reference_numbers(length), _reference_numbers(share))
    return _count_text(empty, counted)


def _count(field: Field, values: list[Any]) -> Field:
    if isinstance(field, NumericHistogram):
        return _count_numbers(field.edges, _numbers(values))
    if isinstance(field, TextCounts):
        return _count_text(field, values)
    found = Counter(_text(value) for value in values if value is not None)
    counts = {value: found.get(value, 0) for value in field.counts}
    missing = sum(value is None for value in values)
    return CategoryCounts(len(values), missing, len(values) - missing - sum(counts.values()), counts)


def _count_numbers(edges: list[float], numbers: NDArray[np.float64]) -> NumericHistogram:
    all_present = numbers[~np.isnan(numbers)]
    present = all_present[all_present != 0]
    # JSON has no infinities.
    finite = all_present[np.isfinite(all_present)]
    bins = np.searchsorted(np.array(edges), present, side="right")
    return NumericHistogram(
        rows=len(numbers),
        missing=len(numbers) - len(all_present),
        zeros=len(all_present) - len(present),
        minimum=float(finite.min()) if finite.size else None,
        maximum=float(finite.max()) if finite.size else None,
        edges=edges,
        counts=np.bincount(bins, minlength=len(edges) + 1).tolist(),
    )


def _count_text(field: TextCounts, values: list[Any]) -> TextCounts:
    rows = [None if value is None else _words(value) for value in values]
    vocabulary = frozenset(field.words)
    frequency = Counter(word for words in rows if words for word in vocabulary.intersection(words))
    length, known = _measures(rows, vocabulary)
    return TextCounts(
        rows=len(rows),
        missing=sum(words is None for words in rows),
        words={word: frequency.get(word, 0) for word in field.words},
        length=_count_numbers(field.length.edges, length),
        known=_count_numbers(field.known.edges, known),
    )


def _measures(rows: list[list[str] | None], known: Set[str]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Number of words of each row (NaN without a string) and the share of known ones (NaN without a word)."""
    length = [np.nan if words is None else len(words) for words in rows]
    share = [np.nan if not words else sum(map(known.__contains__, words)) / len(words) for words in rows]
    return np.array(length, dtype=np.float64), np.array(share, dtype=np.float64)


def _numbers(values: list[Any]) -> NDArray[np.float64]:
    """Shape (len(values),), with NaN for missing values and other types."""
    try:
        # NumPy would convert a string such as "0" to a number.
        if str not in set(map(type, values)):
            return np.array(values, dtype=np.float64)  # None becomes NaN
    except (TypeError, ValueError, OverflowError):
        pass
    return np.array([_number(value) for value in values], dtype=np.float64)


def _number(value: Any) -> float:
    try:
        return float(value) if isinstance(value, int | float) else np.nan
    except OverflowError:
        return np.inf if value > 0 else -np.inf


def _text(value: Any) -> str:
    if isinstance(value, float) and value.is_integer() and abs(value) <= 2**53:
        # A client may send the integer 3 as 3.0: the same category.
        value = int(value)
    return value if isinstance(value, str) else msgspec.json.encode(value).decode()


def _words(value: Any) -> list[str]:
    words = _WORD.findall(_text(value).lower()) if value is not None else []
    return [word[:MAX_WORD_LENGTH] for word in words[:MAX_WORDS_PER_ROW]]


def _sum(one: Field, other: Field) -> Field:
    if isinstance(one, NumericHistogram) and isinstance(other, NumericHistogram):
        return _sum_numbers(one, other)
    if isinstance(one, CategoryCounts) and isinstance(other, CategoryCounts):
        counts = {value: count + other.counts[value] for value, count in one.counts.items()}
        return CategoryCounts(one.rows + other.rows, one.missing + other.missing, one.unseen + other.unseen, counts)
    assert isinstance(one, TextCounts)
    assert isinstance(other, TextCounts)
    words = {word: count + other.words[word] for word, count in one.words.items()}
    histograms = _sum_numbers(one.length, other.length), _sum_numbers(one.known, other.known)
    return TextCounts(one.rows + other.rows, one.missing + other.missing, words, *histograms)


def _sum_numbers(one: NumericHistogram, other: NumericHistogram) -> NumericHistogram:
    lows = [value for value in (one.minimum, other.minimum) if value is not None]
    highs = [value for value in (one.maximum, other.maximum) if value is not None]
    return NumericHistogram(
        rows=one.rows + other.rows,
        missing=one.missing + other.missing,
        zeros=one.zeros + other.zeros,
        minimum=min(lows, default=None),
        maximum=max(highs, default=None),
        edges=one.edges,
        counts=[a + b for a, b in zip(one.counts, other.counts, strict=True)],
    )


def _held_out_rows(rows: Sequence[Any], labels: Sequence[Any], groups: Sequence[Hashable]) -> list[HeldOutRow]:
    if not labels or not rows:
        return []
    codes: dict[Hashable, int] = {}
    numbers = [codes.setdefault(group, len(codes)) for group in groups or range(len(rows))]
    return [HeldOutRow(*row) for row in zip(_plain(rows), _plain(labels), numbers, strict=True)]


def _plain(values: Sequence[Any]) -> list[Any]:
    plain: list[Any] = msgspec.to_builtins(list(values))
    return plain


def _sample(rows: list[_Row], max_bytes: int) -> list[_Row]:
    """Evenly spaced rows, within the limits of size."""
    if not rows:
        return []
    size = len(msgspec.json.encode(rows)) / len(rows)
    fits = max(1, min(len(rows), HELD_OUT_ROWS, int(max_bytes / size)))
    return [rows[index] for index in np.linspace(0, len(rows) - 1, fits).astype(int).tolist()]
