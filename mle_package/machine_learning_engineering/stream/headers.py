"""Record headers: CloudEvents attributes (binary mode), trace context, and where a dead letter came from.

Sources: CloudEvents 1.0 Kafka protocol binding, section 3.2; W3C Trace Context.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

Headers = Sequence[tuple[str, bytes]]

TRACEPARENT = "traceparent"
CLOUDEVENTS_PREFIX = "ce_"
# Of an incoming record only these are passed on to what is written for it.
_CARRIED = ("traceparent", "tracestate")
_TRACEPARENT_TEXT = re.compile(r"[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
# A later event has an id, type and time of its own; every other attribute, such as `ce_source`, is kept.
_OWN_ATTRIBUTES = {"ce_id", "ce_type", "ce_time"}


def carried(
    incoming: Iterable[tuple[str, bytes | None]] | None, *, event_type: str, event_id: str
) -> list[tuple[str, bytes]]:
    """The headers of an event that answers a record with the headers `incoming`.

    Trace context is passed through as it is. Where the producer speaks CloudEvents so does the answer: with its source
    and extensions, and `ce_type` and `ce_id` of the answering event. A producer without headers gets none.
    """
    if not incoming:
        return []
    kept = [
        (name, value)
        for name, value in incoming
        if value is not None
        and (name in _CARRIED or (name.startswith(CLOUDEVENTS_PREFIX) and name not in _OWN_ATTRIBUTES))
    ]
    if any(name == "ce_specversion" for name, _ in kept):
        kept += [("ce_type", event_type.encode()), ("ce_id", event_id.encode())]
    return kept


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
