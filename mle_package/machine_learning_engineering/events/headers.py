"""Record headers: CloudEvents attributes (binary mode), trace context, and where a dead letter came from.

Sources: CloudEvents 1.0 Kafka protocol binding, section 3.2; W3C Trace Context.
"""

import logging
from collections.abc import Iterable, Sequence
from operator import methodcaller
from typing import Any

from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from machine_learning_engineering.observability.trace import TRACEPARENT

logger = logging.getLogger(__name__)

Headers = Sequence[tuple[str, bytes]]
RecordHeaders = Sequence[tuple[str, bytes | None]]
"""As a record has them; a value may be null."""

CLOUDEVENTS_PREFIX = "ce_"
# Of an incoming record only these are passed on to what is written for it.
_CARRIED = ("traceparent", "tracestate")
# A later event has an id, type and time of its own; every other attribute, such as `ce_source`, is kept.
_OWN_ATTRIBUTES = {"ce_id", "ce_type", "ce_time"}
MAX_CARRIED_BYTES = 16 * 1024
"""Of a request's headers so many bytes go along with each answer; what has no room is left out."""
MAX_TRACEPARENT_BYTES = 256
"""W3C's has 55; later versions may add to it."""
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
        # Whoever asks this record again gets none.
        record.set_headers([])
        place = f"{record.topic()} {record.partition()} at {record.offset()}"
        logger.warning(
            "headers of %s can't be read: a name is not UTF-8; they count as none", place, extra=RATE_LIMITED
        )
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
    fitting = fit_headers(
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


def header_size(header: tuple[str, bytes]) -> int:
    # A character has up to four bytes, and a header some of its own on the wire.
    return 4 * len(header[0]) + len(header[1]) + _HEADER_OVERHEAD


def fit_headers(headers: Iterable[tuple[str, bytes]], most: int) -> Iterable[tuple[str, bytes]]:
    """Those that fit into so many bytes, in their order."""
    for header in headers:
        size = header_size(header)
        if size <= most:
            most -= size
            yield header
