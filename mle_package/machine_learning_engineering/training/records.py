"""Examples as they were read, their sources, and the rule for valid labels."""

import math
from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from machine_learning_engineering.core.csv_row import label_of_value
from machine_learning_engineering.core.json_values import decode_as

GIVEN = "given"
"""Source of labels that do not come from a log."""


class SourceUnreadable(ValueError):
    """A source has no readable examples. The message names the source and the fix."""


class LogUnreadable(SourceUnreadable):
    """A prediction log is missing, unreachable or damaged. The data itself is not to blame."""


class Record(NamedTuple):
    """One example as it was read: `features` and `label` are JSON text, `number` counts from 1 within `source`."""

    source: str
    number: int
    features: bytes
    label: bytes
    group: str | None


class Source(Struct, frozen=True):
    """A file, dataset or log that was read.

    `sha256` is the digest of the raw file, or else of the records. `kept` is the path of the copy of a raw file.
    `skipped` counts unusable requests of a log by reason, and `label_sources` the used ones by the source of their
    label; see `log_source.read_log`.
    """

    name: str
    sha256: str
    rows: int
    kept: str = ""
    skipped: dict[str, int] = {}
    label_sources: dict[str, int] = {}


def decode_label(label_type: Any, value: Any) -> Any:
    """Decode a label from JSON text (bytes or `Raw`), or convert it from a JSON value.

    Raises:
        msgspec.ValidationError: It is no `label_type`, or it is null, NaN or infinite.
        msgspec.DecodeError: The text is not JSON.
        UnicodeDecodeError: The text is not UTF-8.
    """
    if isinstance(value, bytes | Raw):
        try:
            value = decode_as(value, label_type)
        except RecursionError:
            raise msgspec.ValidationError("nested too deeply") from None
    else:
        value = msgspec.convert(label_of_value(value, label_type), label_type)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        raise msgspec.ValidationError("missing")
    return value


def limit_sources(sources: Sequence[str], max_share: float) -> list[int]:
    """Choose the newest rows of each source, so that none has more than `max_share` of the chosen rows.

    Args:
        sources: Source of each row, oldest first.
        max_share: Above 0. None is chosen of a single source, whose share is 1 anyway, unless `max_share` is 1.

    Returns:
        Indices of the chosen rows, in order.

    >>> limit_sources(["a", "a", "b", "a", "b"], 0.5)
    [1, 2, 3, 4]
    """
    if max_share >= 1:
        return list(range(len(sources)))
    room = Counter(sources)
    most = max(room.values(), default=0)
    while most > (fitting := int(max_share * sum(min(count, most) for count in room.values()))):
        most = fitting
    room = Counter(dict.fromkeys(room, most))
    chosen = []
    for index in range(len(sources) - 1, -1, -1):
        if room[sources[index]]:
            room[sources[index]] -= 1
            chosen.append(index)
    return chosen[::-1]
