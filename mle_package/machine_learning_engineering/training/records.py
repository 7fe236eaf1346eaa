"""Examples as they were read, their sources, and the rule for valid labels."""

import math
from typing import Any, NamedTuple

import msgspec
from msgspec import Raw, Struct

from machine_learning_engineering.core.csv_row import label_of_value
from machine_learning_engineering.core.json_values import decode_as


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
    `skipped` counts unusable requests of a log by reason; see `log_source.read_log`.
    """

    name: str
    sha256: str
    rows: int
    kept: str = ""
    skipped: dict[str, int] = {}


def decode_label(label_type: Any, value: Any) -> Any:
    """Decode a label from JSON text (bytes or `Raw`), or convert it from a JSON value.

    Raises:
        msgspec.ValidationError: It is no `label_type`, or it is null, NaN or infinite.
        msgspec.DecodeError: The text is not JSON.
        UnicodeDecodeError: The text is not UTF-8.
    """
    if isinstance(value, bytes | Raw):
        value = decode_as(value, label_type)
    else:
        value = msgspec.convert(label_of_value(value, label_type), label_type)
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        raise msgspec.ValidationError("missing")
    return value
