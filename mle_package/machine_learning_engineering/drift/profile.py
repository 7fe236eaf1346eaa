"""What a model's rows and answers looked like when it was trained, as counts in fixed bins: the reference for drift.

Bins are chosen once, on the reference. Any other rows are counted in the same bins (`count_into`), and counts of two
windows add up (`merge`), so that a stream needs to keep no rows. `drift` compares two profiles.

Rows may be a model's Structs or the JSON objects that were decoded from them; a field is known by its name in JSON. An
object within a row gives a field for each of its members, such as ``probabilities.positive``; lists are left out.
"""

from typing import Any

from msgspec import Struct

BINS = 10
"""A number's range is cut into so many bins of about equal counts; one more is below, and one above all of them."""
CATEGORIES = 50
"""A text field with more values than that, with longer ones than `CATEGORY_LENGTH`, or with hardly any value twice, is
read as words."""
CATEGORY_LENGTH = 100
WORDS = 200
"""So many of the most frequent words of a text field are counted."""
HELD_OUT_ROWS = 2_000
"""At most so many held-out answers are kept beside their labels, and at most `HELD_OUT_BYTES` of them."""
HELD_OUT_BYTES = 100_000

MAX_WORD_LENGTH = 40
MAX_WORDS_PER_ROW = 2_000


class NumericHistogram(Struct, frozen=True, tag_field="kind", tag="number"):
    """Counts of a number: `edges` are the bounds between bins, of which the upper one takes the bound itself.

    The first bin is below the reference's minimum and the last above its maximum: both are empty in a reference.

    `rows` = `missing` + `zeros` + the sum of `counts`. Minimum and maximum are those of all numbers, zero included.
    """

    rows: int
    missing: int
    zeros: int
    minimum: float | None
    maximum: float | None
    edges: list[float]
    counts: list[int]


class CategoryCounts(Struct, frozen=True, tag_field="kind", tag="category"):
    """Counts of each known value (true and false as "true" and "false"); `unseen` is whatever is none of them."""

    rows: int
    missing: int
    unseen: int
    counts: dict[str, int]


class TextCounts(Struct, frozen=True, tag_field="kind", tag="text"):
    """Words: in how many rows each of `words` occurs, how many words a row has, and which share of them is known.

    Of the reference's rows every other one chooses the words and is not counted: counted on the rows that chose them,
    words would look more frequent than they are. So `rows` is half of the reference's rows.
    """

    rows: int
    missing: int
    words: dict[str, int]
    length: NumericHistogram
    known: NumericHistogram


Field = NumericHistogram | CategoryCounts | TextCounts


class Profile(Struct, frozen=True):
    """Counts of each field of rows (`features`) and answers (`predictions`).

    `defaults` are the values of features that a request may leave out. `held_out` are answers to rows that the model
    was not fitted on, each with its true label, as JSON values: what live answers are measured against.
    """

    features: dict[str, Field]
    predictions: dict[str, Field]
    defaults: dict[str, Any] = {}
    held_out: list[tuple[Any, Any]] = []
