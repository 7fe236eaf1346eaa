"""The counts of a profile without its bins: small enough to be published often, put back with the reference."""

from typing import Any

from machine_learning_engineering.drift.profile import CategoryCounts, Field, NumericHistogram, Profile, TextCounts

SerializedWindow = list[Any]
"""JSON values: of the features and of the predictions a list for each field, in the order of the reference."""


def serialize(window: Profile) -> SerializedWindow:
    """What `unpack` makes the same window of."""
    return [[_pack(field) for field in fields.values()] for fields in (window.features, window.predictions)]


def deserialize(reference: Profile, packed: SerializedWindow) -> Profile:
    """The window that was packed, in the bins of its reference.

    Raises:
        ValueError: it was counted in other bins.
    """
    try:
        features, predictions = (
            {name: _unpack(field, counts) for (name, field), counts in zip(fields.items(), values, strict=True)}
            for fields, values in zip((reference.features, reference.predictions), packed, strict=True)
        )
    except (TypeError, IndexError) as error:
        raise ValueError(f"these are no counts: {error}") from error
    return Profile(features, predictions, reference.defaults)


def _pack(field: Field) -> list[Any]:
    if isinstance(field, NumericHistogram):
        return [field.rows, field.missing, field.zeros, field.minimum, field.maximum, field.counts]
    if isinstance(field, CategoryCounts):
        return [field.rows, field.missing, field.unseen, list(field.counts.values())]
    return [field.rows, field.missing, _pack(field.length), _pack(field.known), list(field.words.values())]


def _unpack(field: Field, packed: list[Any]) -> Field:
    if isinstance(field, NumericHistogram):
        rows, missing, zeros, minimum, maximum, counts = packed
        if len(counts) != len(field.edges) + 1:
            raise ValueError(f"{len(counts)} counts are not of {len(field.edges)} edges")
        return NumericHistogram(rows, missing, zeros, minimum, maximum, field.edges, counts)
    if isinstance(field, CategoryCounts):
        rows, missing, unseen, counts = packed
        return CategoryCounts(rows, missing, unseen, dict(zip(field.counts, counts, strict=True)))
    rows, missing, length, known, counts = packed
    words = dict(zip(field.words, counts, strict=True))
    return TextCounts(rows, missing, words, _unpack_numbers(field.length, length), _unpack_numbers(field.known, known))


def _unpack_numbers(field: NumericHistogram, packed: list[Any]) -> NumericHistogram:
    unpacked = _unpack(field, packed)
    assert isinstance(unpacked, NumericHistogram)
    return unpacked
