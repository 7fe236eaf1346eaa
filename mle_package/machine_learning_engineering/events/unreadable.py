"""Stand-ins for records that no process can handle."""

from collections.abc import Iterable
from typing import Any

from machine_learning_engineering.events.headers import RecordHeaders, fit_headers

UNREADABLE_BATCH = "unreadable_batch"
"""Reason of the dead letter of a batch that the Kafka client can't unpack."""
TOO_LARGE = "too_large"
"""Reason of the dead letter of a record whose value, key or headers exceed a limit."""


class UnreadableRecord:
    """Takes the place of a record, or of a batch of them, with the interface of a Kafka message.

    It keeps the position, so that offsets are committed as usual. It becomes a dead letter, and nothing else.

    Args:
        offset: Of the record; of a batch, the last one.
        reason: Reason of the dead letter, for programs.
        explanation: Cause and fix, for humans.
        value: Value of the dead letter; None if there is none to keep.
        truncated: Size of the whole in bytes, of which at most a part is kept; 0 if it is unknown.
    """

    __slots__ = (
        "_headers",
        "_key",
        "_offset",
        "_partition",
        "_timestamp",
        "_topic",
        "_value",
        "explanation",
        "reason",
        "truncated",
    )

    def __init__(
        self,
        topic: str,
        partition: int,
        offset: int,
        reason: str,
        explanation: str,
        *,
        key: bytes | None = None,
        value: bytes | None = None,
        headers: RecordHeaders = (),
        timestamp: tuple[int, int] = (0, -1),
        truncated: int = 0,
    ) -> None:
        self._topic = topic
        self._partition = partition
        self._offset = offset
        self._key = key
        self._value = value
        self._headers = headers
        self._timestamp = timestamp
        self.reason = reason
        self.explanation = explanation
        self.truncated = truncated

    def topic(self) -> str:
        """Return the topic."""
        return self._topic

    def partition(self) -> int:
        """Return the partition."""
        return self._partition

    def offset(self) -> int:
        """Return the offset: the next one is the next to read."""
        return self._offset

    def key(self) -> bytes | None:
        """Return the key, perhaps truncated."""
        return self._key

    def value(self) -> bytes | None:
        """Return the value to keep."""
        return self._value

    def headers(self) -> RecordHeaders:
        """Return the headers to keep."""
        return self._headers

    def timestamp(self) -> tuple[int, int]:
        """Return type and milliseconds of the timestamp; -1 if it is unknown."""
        return self._timestamp

    def error(self) -> None:
        """Return None, as for every record."""

    def __len__(self) -> int:
        return len(self._value or b"")


def truncated_size(record: Any) -> int | None:
    """Return the size in bytes of what a record is only a part of; 0 if it is unknown, None if the record is whole."""
    return record.truncated if isinstance(record, UnreadableRecord) else None


def cut_headers(headers: Iterable[tuple[str, bytes | None]], max_bytes: int) -> RecordHeaders:
    """Return the headers that fit into `max_bytes`."""
    return list(fit_headers(((name, value or b"") for name, value in headers), max_bytes))
