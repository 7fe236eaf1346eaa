"""Profile of a model's rows and predictions: counts in fixed bins, the reference for drift.

Bins are chosen once, from the reference. Other rows are counted in the same bins (`count_into`) and counts of windows
add up (`merge`), so a stream keeps no rows. `drift` compares two profiles.

Rows are a model's Structs or JSON objects; a field has its name in JSON. An object within a row gives one field per
member, such as ``probabilities.positive``. Lists are ignored.
"""

from collections.abc import Set
from typing import Any

import msgspec
from msgspec import Struct

BINS = 10
"""Bins of about equal counts within the range of a number. One more bin is below the range and one above it."""
CATEGORIES = 50
"""Maximum number of values of a categorical field. A string field is read as words if it has more values, if one is
longer than `CATEGORY_LENGTH`, or if values hardly repeat."""
CATEGORY_LENGTH = 100
WORDS = 200
"""Number of most frequent words that are counted in a text field."""
HELD_OUT_ROWS = 2_000
"""Maximum number of held-out predictions in a profile; `HELD_OUT_BYTES` is their maximum size as JSON."""
HELD_OUT_BYTES = 100_000
HELD_OUT_FEATURES_BYTES = 1_000_000
"""Maximum size of the features of held-out rows in a profile, as JSON."""
MAX_WORD_LENGTH = 40
MAX_WORDS_PER_ROW = 2_000


class NumericHistogram(Struct, frozen=True, tag_field="kind", tag="number"):
    """Counts of a number by bin: `rows` = `missing` + `zeros` + sum of `counts`.

    Bin i holds ``edges[i - 1] <= x < edges[i]``, zeros excluded. The first bin is below the reference's minimum and the
    last above its maximum, so both are empty in the reference itself. `minimum` and `maximum` include zeros.
    """

    rows: int
    missing: int
    zeros: int
    minimum: float | None
    maximum: float | None
    edges: list[float]
    counts: list[int]


class CategoryCounts(Struct, frozen=True, tag_field="kind", tag="category"):
    """Counts of each value of the reference (booleans as "true" and "false"); `unseen` counts all other values."""

    rows: int
    missing: int
    unseen: int
    counts: dict[str, int]


class TextCounts(Struct, frozen=True, tag_field="kind", tag="text"):
    """Rows that contain each of `words`, the number of words of each row, and the share of them that is known.

    In a reference every other row selects the words and only the remaining rows are counted: counted on the rows that
    selected them, words would look more frequent than they are. So `rows` is half of the reference's rows.
    """

    rows: int
    missing: int
    words: dict[str, int]
    length: NumericHistogram
    known: NumericHistogram


Field = NumericHistogram | CategoryCounts | TextCounts


class HeldOutRow(Struct, frozen=True, array_like=True):
    """A row that the model was not fitted on: features and label as JSON values, and the number of its group."""

    features: Any
    label: Any
    group: int


class Profile(Struct, frozen=True):
    """Counts of each field of rows (`features`) and predictions.

    `defaults` are the values of optional features. `held_out` are predictions for rows that the model was not fitted
    on, each with its true label, as JSON values: live predictions are compared with them. `held_out_rows` are such rows
    with their features: a new version must not be worse on them (`training.promotion`).
    """

    features: dict[str, Field]
    predictions: dict[str, Field]
    defaults: dict[str, Any] = {}
    held_out: list[tuple[Any, Any]] = []
    held_out_rows: list[HeldOutRow] = []


def without_rows(profile: Profile) -> Profile:
    """The profile without held-out rows and predictions: counts alone, as the comparison of windows needs them."""
    return msgspec.structs.replace(profile, held_out=[], held_out_rows=[])


def without_features(profile: Profile, names: Set[str]) -> Profile:
    """The profile without these features and their members; ``*`` means all features."""
    features = {
        name: field for name, field in profile.features.items() if names.isdisjoint(("*", name, name.partition(".")[0]))
    }
    return msgspec.structs.replace(profile, features=features)
