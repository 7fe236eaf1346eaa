"""Record headers: CloudEvents attributes (binary mode) and trace context.

Sources: CloudEvents 1.0 Kafka protocol binding, section 3.2; W3C Trace Context.
"""

import logging
from collections.abc import Iterable, Sequence
from operator import methodcaller
from typing import Any, TypeVar

from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from machine_learning_engineering.observability.trace import TRACEPARENT

logger = logging.getLogger(__name__)

Headers = Sequence[tuple[str, bytes]]
RecordHeaders = Sequence[tuple[str, bytes | None]]
"""Headers of a received record; a value may be null."""

CLOUDEVENTS_PREFIX = "ce_"
FINGERPRINT = "inflight_fingerprint"
"""The gateway's requests carry the fingerprint of the body that was sent to it, and so do their outcomes: it tells a
body that is sent again from another one under the same id, and finds the gateway's requests without decoding others."""
# Of a request's headers, only these are copied to its outcome.
_CARRIED = ("traceparent", "tracestate", FINGERPRINT)
# An outcome has an id, type and time of its own; every other attribute, such as `ce_source`, is kept.
_OWN_ATTRIBUTES = {"ce_id", "ce_type", "ce_time"}
MAX_CARRIED_BYTES = 16 * 1024
"""Maximum size of the request headers that are copied to an outcome; headers that do not fit are omitted."""
MAX_TRACEPARENT_BYTES = 256
"""The W3C format has 55 bytes; later versions may extend it."""
_HEADER_OVERHEAD = 16
_Value = TypeVar("_Value", bytes, bytes | None)

# Not `record.headers()`: if that leaves an exception set, compiled calls notice it only some lines later.
_headers_of = methodcaller("headers")


def headers_of(record: Any) -> RecordHeaders:
    """Return the headers of a Kafka record; none if it has none, or if a name is not UTF-8.

    Always read headers with this function. For a name that is not UTF-8, confluent-kafka (2.16) returns a list with
    null pointers, which crashes its reader: one record would end every process that reads it.
    """
    try:
        return _headers_of(record) or ()
    except (SystemError, UnicodeDecodeError):
        # A later call on this record returns none.
        record.set_headers([])
        position = f"{record.topic()} {record.partition()} at {record.offset()}"
        logger.warning("ignored the headers of %s: a name is not UTF-8", position, extra=RATE_LIMITED)
        return ()


def carried(
    incoming: Iterable[tuple[str, bytes | None]] | None, *, event_type: str, event_id: str
) -> list[tuple[str, bytes]]:
    """Return the headers of an outcome, given those of its request.

    Trace context is copied unchanged. If the request is a CloudEvent, so is the outcome: with the source and extensions
    of the request, and a `ce_type` and `ce_id` of its own. The size is bounded by `MAX_CARRIED_BYTES`, because the
    broker would reject an outcome that is too large for ever.

    Args:
        incoming: Headers of the request.
        event_type: `ce_type` of the outcome.
        event_id: `ce_id` of the outcome.
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


def own_attributes(
    headers: Iterable[tuple[str, bytes | None]], event_type: str, event_id: str
) -> list[tuple[str, bytes | None]]:
    """Return the headers of a CloudEvent with the type and the id of another one, and without its time."""
    kept: list[tuple[str, bytes | None]] = [header for header in headers if header[0] not in _OWN_ATTRIBUTES]
    return [*kept, ("ce_type", event_type.encode()), ("ce_id", event_id.encode())]


def traceparent_of(headers: Iterable[tuple[str, bytes | None]]) -> str | None:
    """Return the `traceparent` header, well-formed or not; None if it is missing or too large to be one."""
    for name, value in headers:
        if name == TRACEPARENT and value is not None:
            return value.decode(errors="replace") if len(value) <= MAX_TRACEPARENT_BYTES else None
    return None


def header_size(header: tuple[str, bytes | None]) -> int:
    """Return an upper bound of a header's size on the wire, in bytes."""
    # A character has up to four bytes.
    return 4 * len(header[0]) + len(header[1] or b"") + _HEADER_OVERHEAD


def fit_headers(headers: Iterable[tuple[str, _Value]], max_bytes: int) -> Iterable[tuple[str, _Value]]:
    """Yield headers in order, skipping each that would exceed `max_bytes` in total."""
    for header in headers:
        size = header_size(header)
        if size <= max_bytes:
            max_bytes -= size
            yield header
