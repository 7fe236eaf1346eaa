"""Dead-letter records: the original bytes, with the origin in `dlq_*` headers."""

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from machine_learning_engineering.events.headers import MAX_CARRIED_BYTES, fit_headers, header_size
from machine_learning_engineering.events.topics import MAX_MESSAGE_BYTES, MEBIBYTE

MAX_LETTER_BYTES = MAX_MESSAGE_BYTES - MEBIBYTE
"""A larger record is cut as a dead letter, so that its origin has room beside it."""


class DeadLetterOrigin(NamedTuple):
    """Why and where a record was set aside. `model` and `request_id` are None where they can't be read."""

    reason: str
    message: str
    stage: str
    topic: str
    partition: int
    offset: int
    model: str | None = None
    request_id: str | None = None


_DLQ = "dlq_"


def dead_letter_headers(
    origin: DeadLetterOrigin, incoming: Iterable[tuple[str, bytes | None]] | None
) -> list[tuple[str, bytes]]:
    """The original record's headers, unchanged, and its origin as `dlq_*`. An earlier origin is replaced."""
    kept = [(name, value or b"") for name, value in incoming or () if not name.startswith(_DLQ)]
    return kept + [
        (_DLQ + field, str(value).encode()) for field, value in origin._asdict().items() if value is not None
    ]


def dead_letter(
    origin: DeadLetterOrigin, key: bytes | None, value: bytes | None, incoming: Iterable[tuple[str, bytes | None]]
) -> tuple[bytes | None, bytes | None, list[tuple[str, bytes]]]:
    """Key, value and headers of a dead letter: the record's own bytes, and its origin.

    A record may be larger than what a producer may send: a broker limits the size that it has compressed. Then key and
    value are cut to a mebibyte each and its headers to what is carried, and the message of the origin says so.
    """
    headers = dead_letter_headers(origin, incoming)
    size = len(key or b"") + len(value or b"") + sum(map(header_size, headers))
    if size <= MAX_LETTER_BYTES:
        return key, value, headers
    message = f"cut from {size} bytes, the whole is at its origin; {origin.message}"
    short = list(fit_headers(((name, text or b"") for name, text in incoming), MAX_CARRIED_BYTES))
    headers = dead_letter_headers(origin._replace(message=message), short)
    return key and key[:MEBIBYTE], value and value[:MEBIBYTE], headers


def without_origin(headers: Iterable[tuple[str, bytes | None]] | None) -> list[tuple[str, bytes]]:
    """The headers that the record had before it became a dead letter, for its replay."""
    return [(name, value or b"") for name, value in headers or () if not name.startswith(_DLQ)]


def read_origin(headers: Iterable[tuple[str, bytes | None]] | None) -> DeadLetterOrigin:
    """The origin of a dead letter.

    Raises:
        ValueError: the headers hold no origin, so the record is not a dead letter of this product.
    """
    found: Mapping[str, str] = {
        name.removeprefix(_DLQ): (value or b"").decode(errors="replace")
        for name, value in headers or ()
        if name.startswith(_DLQ)
    }

    def number(field: str) -> int:
        try:
            return int(found[field])
        except ValueError:  # whose text quotes the header
            raise KeyError(field) from None

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
        )
    except KeyError as error:
        raise ValueError(f"not a dead letter: header dlq_{error.args[0]} is missing or wrong") from error
