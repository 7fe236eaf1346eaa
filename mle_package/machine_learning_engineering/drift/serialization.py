"""Counts of a window without its bins: small enough to publish often, restored with the reference."""

from typing import Any

import msgspec

from machine_learning_engineering.drift.profile import CategoryCounts, Field, NumericHistogram, Profile, TextCounts

SerializedWindow = list[Any]
"""JSON values: one list for features and one for predictions, each with a list per field in the reference's order."""


def serialize(window: Profile) -> SerializedWindow:
    """Convert a window to JSON values; `deserialize` restores it."""
    return [[_serialize(field) for field in fields.values()] for fields in (window.features, window.predictions)]


def deserialize(reference: Profile, serialized: SerializedWindow) -> Profile:
    """Restore a window in the bins of its reference.

    Raises:
        ValueError: It was counted in other bins, or holds something else than counts.
    """
    try:
        features, predictions = (
            {name: _deserialize(field, counts) for (name, field), counts in zip(fields.items(), values, strict=True)}
            for fields, values in zip((reference.features, reference.predictions), serialized, strict=True)
        )
    except (TypeError, IndexError) as error:
        raise ValueError(f"invalid counts: {error}") from error
    restored = Profile(features, predictions, reference.defaults)
    # The lists may hold anything: anything but a count would crash each process that adds to it.
    return msgspec.convert(msgspec.to_builtins(restored), Profile)


def _serialize(field: Field) -> list[Any]:
    if isinstance(field, NumericHistogram):
        return [field.rows, field.missing, field.zeros, field.minimum, field.maximum, field.counts]
    if isinstance(field, CategoryCounts):
        return [field.rows, field.missing, field.unseen, list(field.counts.values())]
    return [field.rows, field.missing, _serialize(field.length), _serialize(field.known), list(field.words.values())]


def _deserialize(field: Field, serialized: list[Any]) -> Field:
    if isinstance(field, NumericHistogram):
        return _deserialize_numbers(field, serialized)
    if isinstance(field, CategoryCounts):
        rows, missing, unseen, counts = serialized
        return CategoryCounts(rows, missing, unseen, dict(zip(field.counts, counts, strict=True)))
    rows, missing, length, known, counts = serialized
    words = dict(zip(field.words, counts, strict=True))
    histograms = _deserialize_numbers(field.length, length), _deserialize_numbers(field.known, known)
    return TextCounts(rows, missing, words, *histograms)


def _deserialize_numbers(field: NumericHistogram, serialized: list[Any]) -> NumericHistogram:
    rows, missing, zeros, minimum, maximum, counts = serialized
    if len(counts) != len(field.edges) + 1:
        raise ValueError(f"{len(counts)} counts do not match {len(field.edges)} edges")
    return NumericHistogram(rows, missing, zeros, minimum, maximum, field.edges, counts)
