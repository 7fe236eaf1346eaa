"""Dead-letter records: the original bytes, with the origin in `dlq_*` headers.

The headers of the origin follow those of the record, which may have the same names: they begin with the last
`dlq_reason`. So no sender can name another origin, and a replay gets back every header of the record.
"""

import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from machine_learning_engineering.events.headers import (
    MAX_CARRIED_BYTES,
    RecordHeaders,
    fit_headers,
    header_size,
)
from machine_learning_engineering.events.topics import MAX_MESSAGE_BYTES, MEBIBYTE

MAX_LETTER_BYTES = MAX_MESSAGE_BYTES - MEBIBYTE
"""Maximum size of a dead letter. A larger record is truncated, so that its origin fits too."""


class DeadLetterOrigin(NamedTuple):
    """Reason and position of a rejected record. `model` and `request_id` are None if they could not be read.

    `truncated` is the size of the record in bytes if the dead letter holds only a part of it; 0 if it is unknown.
    """

    reason: str
    message: str
    stage: str
    topic: str
    partition: int
    offset: int
    model: str | None = None
    request_id: str | None = None
    truncated: int | None = None


_NUMBER = re.compile(r"-?[0-9]{1,18}")
_DLQ = "dlq_"
_FIRST = "dlq_reason"


def dead_letter_headers(
    origin: DeadLetterOrigin, incoming: Iterable[tuple[str, bytes | None]] | None
) -> list[tuple[str, bytes | None]]:
    """Add the origin as `dlq_*` headers behind those of the record, which are unchanged."""
    own: list[tuple[str, bytes | None]] = [
        (_DLQ + field, str(value).encode()) for field, value in origin._asdict().items() if value is not None
    ]
    return [*(incoming or ()), *own]


def dead_letter(
    origin: DeadLetterOrigin, key: bytes | None, value: bytes | None, incoming: RecordHeaders
) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes | None]]]:
    """Build a dead letter from a record's own bytes and its origin.

    A record may exceed a producer's limit, because a broker limits its compressed size. In that case, key and value are
    truncated to a mebibyte each and the headers to `MAX_CARRIED_BYTES`, and the origin says so.

    Returns:
        Key, value and headers.
    """
    headers = dead_letter_headers(origin, incoming)
    size = len(key or b"") + len(value or b"") + sum(map(header_size, headers))
    if size <= MAX_LETTER_BYTES:
        return key, value, headers
    message = f"truncated from {size} bytes, see the original record; {origin.message}"
    short = fit_headers(incoming, MAX_CARRIED_BYTES)
    headers = dead_letter_headers(origin._replace(message=message, truncated=max(size, origin.truncated or 0)), short)
    return key and key[:MEBIBYTE], value and value[:MEBIBYTE], headers


def without_origin(headers: RecordHeaders | None) -> list[tuple[str, bytes | None]]:
    """Return the headers of the original record, for its replay."""
    headers = headers or ()
    return list(headers[: _start_of_origin(headers)])


def read_origin(headers: RecordHeaders | None) -> DeadLetterOrigin:
    """Read the origin of a dead letter.

    Raises:
        ValueError: The headers hold no origin: the record is not a dead letter of Inflight.
    """
    headers = headers or ()
    found: Mapping[str, str] = {
        name.removeprefix(_DLQ): (value or b"").decode(errors="replace")
        for name, value in headers[_start_of_origin(headers) :]
        if name.startswith(_DLQ)
    }

    def number(field: str) -> int:
        # As we write it: `int` would also take 1_000, and more digits than an index does.
        if _NUMBER.fullmatch(found[field]) is None:
            raise KeyError(field)
        return int(found[field])

    try:
        return DeadLetterOrigin(
            reason=found["reason"],
            message=found["message"],
            stage=found["stage"],
            topic=found["topic"],
            partition=number("partition"),
            offset=number("offset"),
            model=found.get("model"),
            request_id=found.get("request_id"),
            truncated=number("truncated") if "truncated" in found else None,
        )
    except KeyError as error:
        raise ValueError(f"not a dead letter: header dlq_{error.args[0]} is missing or wrong") from error


def _start_of_origin(headers: RecordHeaders) -> int:
    return max((index for index, (name, _) in enumerate(headers) if name == _FIRST), default=len(headers))
