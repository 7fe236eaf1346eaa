"""Record headers: CloudEvents attributes (binary mode), trace context, and where a dead letter came from.

Sources: CloudEvents 1.0 Kafka protocol binding, section 3.2; W3C Trace Context.
"""

import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from operator import methodcaller
from typing import Any, NamedTuple

from machine_learning_engineering.stream.topics import MAX_MESSAGE_BYTES, MEBIBYTE

logger = logging.getLogger(__name__)

Headers = Sequence[tuple[str, bytes]]
RecordHeaders = Sequence[tuple[str, bytes | None]]
"""As a record has them; a value may be null."""

TRACEPARENT = "traceparent"
CLOUDEVENTS_PREFIX = "ce_"
# Of an incoming record only these are passed on to what is written for it.
_CARRIED = ("traceparent", "tracestate")
_TRACEPARENT_TEXT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
# A later event has an id, type and time of its own; every other attribute, such as `ce_source`, is kept.
_OWN_ATTRIBUTES = {"ce_id", "ce_type", "ce_time"}
MAX_CARRIED_BYTES = 16 * 1024
"""Of a request's headers so many bytes go along with each answer; what has no room is left out."""
MAX_TRACEPARENT_BYTES = 256
"""W3C's has 55; later versions may add to it."""
MAX_LETTER_BYTES = MAX_MESSAGE_BYTES - MEBIBYTE
"""A larger record is cut as a dead letter, so that its origin has room beside it."""
_HEADER_OVERHEAD = 16

# Not `record.headers()`: where that leaves an exception behind, compiled calls notice it only some lines later.
_headers_of = methodcaller("headers")


def headers_of(record: Any) -> RecordHeaders:
    """The headers of a Kafka record; none where it has none, or some whose name is not UTF-8.

    Read them by this function only. For such a name confluent-kafka (2.16) gives a list with null pointers in it, which
    crashes whoever looks into it: the one record would end every process that reads it.
    """
    try:
        return _headers_of(record) or ()
    except (SystemError, UnicodeDecodeError):
        from machine_learning_engineering.service_log import MAY_REPEAT

        # Whoever asks this record again gets none.
        record.set_headers([])
        place = f"{record.topic()} {record.partition()} at {record.offset()}"
        logger.warning("headers of %s can't be read: a name is not UTF-8; they count as none", place, extra=MAY_REPEAT)
        return ()


def carried(
    incoming: Iterable[tuple[str, bytes | None]] | None, *, event_type: str, event_id: str
) -> list[tuple[str, bytes]]:
    """The headers of an event that answers a record with the headers `incoming`.

    Trace context is passed through as it is. Where the producer speaks CloudEvents so does the answer: with its source
    and extensions, and `ce_type` and `ce_id` of the answering event. A producer without headers gets none. All of them
    together have at most `MAX_CARRIED_BYTES`: an answer that the broker refuses for its size would never come.
    """
    if not incoming:
        return []
    fitting = _within(
        (
            (name, value)
            for name, value in incoming
            if value is not None
            and (name in _CARRIED or (name.startswith(CLOUDEVENTS_PREFIX) and name not in _OWN_ATTRIBUTES))
        ),
        MAX_CARRIED_BYTES,
    )
    kept = list(fitting)
    if any(name == "ce_specversion" for name, _ in kept):
        kept += [("ce_type", event_type.encode()), ("ce_id", event_id.encode())]
    return kept


def traceparent_of(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """The text of the trace context, well-formed or not; None without one, and of one that is no such thing by size."""
    for name, value in headers:
        if name == TRACEPARENT and value is not None:
            return value.decode(errors="replace") if len(value) <= MAX_TRACEPARENT_BYTES else None
    return None


def trace_ids(traceparent: str) -> tuple[str, str] | None:
    """Trace id and span id of a W3C `traceparent`; None where it is malformed."""
    match = _TRACEPARENT_TEXT.fullmatch(traceparent)
    return None if match is None else (match[1], match[2])


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
    size = len(key or b"") + len(value or b"") + sum(map(_size, headers))
    if size <= MAX_LETTER_BYTES:
        return key, value, headers
    message = f"cut from {size} bytes, the whole is at its origin; {origin.message}"
    short = list(_within(((name, text or b"") for name, text in incoming), MAX_CARRIED_BYTES))
    headers = dead_letter_headers(origin._replace(message=message), short)
    return key and key[:MEBIBYTE], value and value[:MEBIBYTE], headers


def _size(header: tuple[str, bytes]) -> int:
    # A character has up to four bytes, and a header some of its own on the wire.
    return 4 * len(header[0]) + len(header[1]) + _HEADER_OVERHEAD


def _within(headers: Iterable[tuple[str, bytes]], most: int) -> Iterable[tuple[str, bytes]]:
    """Those that fit into so many bytes, in their order."""
    for header in headers:
        size = _size(header)
        if size <= most:
            most -= size
            yield header


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
