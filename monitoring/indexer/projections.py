"""The documents of a record, by topic. No I/O."""

from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Message

from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.record_time import written_at
from machine_learning_engineering.events.schemas import (
    DriftMeasured,
    decode_api_call,
    decode_log,
    decode_measurement,
    decode_model_event,
    decode_shadow,
)
from machine_learning_engineering.events.topics import (
    API_CALLS,
    DEAD_LETTERS,
    LOGS,
    MEASUREMENTS,
    MODEL_EVENTS,
    SHADOWS,
)
from monitoring.documents.api_call import CallDocument, call_document
from monitoring.documents.common import PlainDocument
from monitoring.documents.dead_letter import DeadLetterDocument, dead_letter_document
from monitoring.documents.drift import drift_documents
from monitoring.documents.log import document_id, encode, index_name, to_fields
from monitoring.documents.model_event import model_event_document
from monitoring.documents.quality import quality_documents
from monitoring.documents.shadow import ShadowDocument, shadow_document
from monitoring.elastic.bulk import action

_encode_json = msgspec.json.encode
MAX_AHEAD = timedelta(hours=1)
"""How far the time of an event may be after that of its record."""
# The time of an event names its index, and a node takes a thousand shards: no sender may name them at will.
# These are 730 daily indices of logs, of calls and of shadows, and 60 monthly ones for each of the other families.
MAX_AGE, MAX_AGE_OF_DAILY = timedelta(days=5 * 365), timedelta(days=730)


class Entry(NamedTuple):
    """One document to index.

    `action` holds index and id, so two entries concern the same document if and only if their actions are equal.
    `action` and `document` are lines of the bulk format without line breaks. If there is a `fingerprint`, an existing
    document with another one is a conflict; if there is none, an existing document is always the same. A completed
    `outcome` replaces the failed one of the same request.
    """

    record: Message
    index_name: str
    id: str
    action: bytes
    document: bytes
    fingerprint: str | None = None
    model: str | None = None
    request_id: str | None = None
    outcome: str | None = None

    @property
    def lines(self) -> bytes:
        """Action and document, for a bulk request."""
        return self.action + b"\n" + self.document

    @property
    def size(self) -> int:
        """Bytes in the bulk request."""
        return len(self.action) + len(self.document) + 2


class Projection(NamedTuple):
    """How the records of a topic become entries.

    `entries` raises ValueError if a record is not a `what`; `undecodable` is the reason of its dead letter then.
    """

    what: str
    undecodable: str
    entries: Callable[[Message], Sequence[Entry]]


def log_entries(record: Message) -> tuple[Entry]:
    """The document of a request and its outcome."""
    event = decode_log(record.value() or b"")
    fields = to_fields(event)
    _check_time(fields.timestamp, record, MAX_AGE_OF_DAILY)
    index, identity = index_name(event.accepted_at), document_id(event.request_id)
    return (
        Entry(
            record,
            index,
            identity,
            action("create", index, identity),
            encode(fields),
            fields.inflight.fingerprint,
            event.model,
            event.request_id,
            event.outcome,
        ),
    )


def measurement_entries(record: Message) -> list[Entry]:
    """One document per field of a window, or per metric of a quality measurement."""
    event = decode_measurement(record.value() or b"")
    documents = drift_documents(event) if isinstance(event, DriftMeasured) else quality_documents(event)
    return _entries(record, documents, event.model)


def model_event_entries(record: Message) -> list[Entry]:
    """One document; none for a tombstone, which deletes a key of a compacted topic."""
    value = record.value()
    if value is None:
        return []
    event = decode_model_event(value)
    return _entries(record, [model_event_document(event)], event.model)


def dead_letter_entries(record: Message) -> list[Entry]:
    """One document, from the headers only."""
    document = dead_letter_document(
        record.topic(),
        record.partition(),
        record.offset(),
        record.timestamp()[1],
        len(record.value() or b""),
        headers_of(record),
    )
    return _entries(record, [document])


def api_call_entries(record: Message) -> list[Entry]:
    """The document of a call of the gateway."""
    return _entries(record, [call_document(decode_api_call(record.value() or b""))], max_age=MAX_AGE_OF_DAILY)


def shadow_entries(record: Message) -> list[Entry]:
    """The document of a shadow's answer."""
    event = decode_shadow(record.value() or b"")
    return _entries(record, [shadow_document(event)], event.model, MAX_AGE_OF_DAILY)


def _entries(
    record: Message,
    documents: Iterable[tuple[str, str, PlainDocument[Any] | DeadLetterDocument | CallDocument | ShadowDocument]],
    model: str | None = None,
    max_age: timedelta = MAX_AGE,
) -> list[Entry]:
    found = []
    for index, identity, document in documents:
        _check_time(document.timestamp, record, max_age)
        line = action("create", index, identity)
        found.append(Entry(record, index, identity, line, _encode_json(document), model=model))
    return found


def _check_time(moment: datetime, record: Message, max_age: timedelta) -> None:
    # Almost always; and where the time is bounded by our own clock, no sender can name many indices.
    if -MAX_AHEAD <= datetime.now(UTC) - moment <= max_age:
        return
    age = written_at(record) - moment
    if age < -MAX_AHEAD:
        raise ValueError("its time is more than an hour after its record was written")
    if age > max_age:
        raise ValueError(f"its time is more than {max_age.days} days before its record was written")


PROJECTIONS = {
    LOGS: Projection("prediction log", "undecodable_log", log_entries),
    DEAD_LETTERS: Projection("dead letter", "undecodable_dead_letter", dead_letter_entries),
    MEASUREMENTS: Projection("measurement", "undecodable_measurement", measurement_entries),
    MODEL_EVENTS: Projection("model event", "undecodable_model_event", model_event_entries),
    SHADOWS: Projection("shadow", "undecodable_shadow", shadow_entries),
    API_CALLS: Projection("API call", "undecodable_api_call", api_call_entries),
}
"""By topic, without the deployment's prefix."""
