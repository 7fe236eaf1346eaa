"""Reported labels as they are read from their topic: bounded in size, and observed at a plausible time.

A label dated far in the future would override every later one, and anyone who may write the topic could send one.
"""

from datetime import UTC, timedelta
from typing import Any

import msgspec

from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.record_time import written_at
from machine_learning_engineering.events.schemas import LabelReported, decode_label

MAX_LABEL_BYTES = 64 * 1024
"""Maximum size of a label's record: key, value and headers."""
MAX_AHEAD = timedelta(minutes=5)
"""How far the clock that observed a label may be ahead of the broker's."""


class LabelTooLarge(ValueError):
    """The record is too large to be read as a label."""


class InvalidLabel(ValueError):
    """The record is not an acceptable label. The message quotes no value."""


def read_label(record: Any) -> LabelReported:
    """Return the label of a record; `observed_at` is in UTC.

    Raises:
        LabelTooLarge: Its record has more than `MAX_LABEL_BYTES`.
        InvalidLabel: It was observed after it was written.
        msgspec.MsgspecError, UnicodeDecodeError, RecursionError, OverflowError: The value is not a `LabelReported`.
    """
    value = record.value() or b""
    # The value first: it is the cheaper one, and may hold a hundred megabytes.
    size = len(value) + len(record.key() or b"")
    if size <= MAX_LABEL_BYTES:
        size += sum(len(name) + len(content or b"") for name, content in headers_of(record))
    if size > MAX_LABEL_BYTES:
        raise LabelTooLarge(f"key, value and headers have {size:,} bytes or more, at most {MAX_LABEL_BYTES:,} are read")
    event = decode_label(value)
    observed_at = event.observed_at.astimezone(UTC)
    if observed_at - written_at(record) > MAX_AHEAD:
        raise InvalidLabel(
            "observed_at is more than 5 minutes after the label was written: set the clock of its source, "
            "or report labels once they are known"
        )
    return msgspec.structs.replace(event, observed_at=observed_at)
