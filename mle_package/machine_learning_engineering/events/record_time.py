"""When a record was written to its topic."""

from datetime import UTC, datetime
from typing import Any

from machine_learning_engineering.core.timestamps import datetime_of_milliseconds

# As in `confluent_kafka`, which this package does not need.
_NOT_AVAILABLE, _LOG_APPEND_TIME = 0, 2


def recorded_at(record: Any) -> datetime | None:
    """Return the time of a record; None if it has none, or an impossible one."""
    kind, milliseconds = record.timestamp()
    return None if kind == _NOT_AVAILABLE else datetime_of_milliseconds(milliseconds)


def written_at(record: Any) -> datetime:
    """Return when a record was written, by a clock that its sender can't set: the broker's, or now by this machine's.

    Only topics with ``message.timestamp.type=LogAppendTime`` have the broker's time.
    """
    kind, _ = record.timestamp()
    found = recorded_at(record) if kind == _LOG_APPEND_TIME else None
    return datetime.now(UTC) if found is None else found
