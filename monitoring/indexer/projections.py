"""What becomes of the records of each topic in the index: each is projected onto its documents, often a single one.

Nothing here does input or output.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import msgspec
from confluent_kafka import Message

from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.schemas import (
    DriftMeasured,
    decode_log,
    decode_measurement,
    decode_model_event,
)
from machine_learning_engineering.events.topics import DEAD_LETTERS, LOGS, MEASUREMENTS, MODEL_EVENTS
from monitoring.documents.dead_letter import dead_letter_document
from monitoring.documents.drift import drift_documents
from monitoring.documents.log import document_id, encode, index_name, to_fields
from monitoring.documents.model_event import model_event_document
from monitoring.documents.quality import quality_documents

_encode_json = msgspec.json.encode


class Entry(NamedTuple):
    """One document on its way into the index.

    `action` names index and document, so two entries are about the same document if and only if their actions are
    equal. `action` and `document` are lines of the bulk format without their line breaks. With a `fingerprint`, a
    document that exists already is a conflict unless it has the same one; without, it is always the same document.
    """

    record: Message
    index_name: str
    id: str
    action: bytes
    document: bytes
    fingerprint: str | None = None
    model: str | None = None
    request_id: str | None = None

    @property
    def size(self) -> int:
        """Bytes in the bulk request."""
        return len(self.action) + len(self.document) + 2


class Projection(NamedTuple):
    """The entries of a record of one topic; `entries` raises ValueError where the record is not `what` it has to be.

    `undecodable` is then the reason of its dead letter.
    """

    what: str
    undecodable: str
    entries: Callable[[Message], Sequence[Entry]]


def log_entries(record: Message) -> tuple[Entry]:
    """The document of a request and its outcome, with its fingerprint: the first use of a request id wins."""
    event = decode_log(record.value() or b"")
    fields = to_fields(event)
    index, identity = index_name(event.accepted_at), document_id(event.request_id)
    return (
        Entry(
            record,
            index,
            identity,
            _action(index, identity),
            encode(fields),
            fields.inflight.fingerprint,
            event.model,
            event.request_id,
        ),
    )


def measurement_entries(record: Message) -> list[Entry]:
    """A document for each field of a window, or for each metric of live answers."""
    event = decode_measurement(record.value() or b"")
    found = drift_documents(event) if isinstance(event, DriftMeasured) else quality_documents(event)
    return _entries(record, found, event.model)


def model_event_entries(record: Message) -> list[Entry]:
    """One document; none of a tombstone, by which a compacted topic forgets a key."""
    value = record.value()
    if value is None:
        return []
    event = decode_model_event(value)
    return _entries(record, [model_event_document(event)], event.model)


def dead_letter_entries(record: Message) -> list[Entry]:
    """One document, from the headers and not from the payload."""
    found = dead_letter_document(
        record.topic(),
        record.partition(),
        record.offset(),
        record.timestamp()[1],
        len(record.value() or b""),
        headers_of(record),
    )
    return _entries(record, [found])


def _entries(
    record: Message, documents: Iterable[tuple[str, str, msgspec.Struct]], model: str | None = None
) -> list[Entry]:
    return [
        Entry(record, index, identity, _action(index, identity), _encode_json(document), model=model)
        for index, identity, document in documents
    ]


def _action(index: str, identity: str) -> bytes:
    # The index name is made of letters, digits, hyphens and dots, so of the two only the id can need escaping.
    return b'{"create":{"_index":"%b","_id":%b}}' % (index.encode(), _encode_json(identity))


PROJECTIONS = {
    LOGS: Projection("prediction log", "undecodable_log", log_entries),
    DEAD_LETTERS: Projection("dead letter", "undecodable_dead_letter", dead_letter_entries),
    MEASUREMENTS: Projection("measurement", "undecodable_measurement", measurement_entries),
    MODEL_EVENTS: Projection("model event", "undecodable_model_event", model_event_entries),
}
"""By topic, whose name is without the deployment's prefix."""
