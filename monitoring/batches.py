"""Log records as entries of a bulk request, and batches of them. Nothing here does input or output."""

import threading
from collections.abc import Iterable, Sequence
from typing import NamedTuple

import msgspec
from confluent_kafka import Message

from machine_learning_engineering.events import decode_log
from monitoring.dead_letters import UNDECODABLE, DeadLetter
from monitoring.documents import document_id, encode, index_name, to_fields

Position = tuple[str, int]
"""Topic and partition."""

_encode_json = msgspec.json.encode


class Entry(NamedTuple):
    """One log record on its way into the index.

    `action` names index and document, so two entries are about the same document if and only if their actions are
    equal. `action` and `document` are lines of the bulk format without their line breaks.
    """

    record: Message
    index_name: str
    id: str
    model: str
    request_id: str
    fingerprint: str
    action: bytes
    document: bytes

    @property
    def size(self) -> int:
        """Bytes in the bulk request."""
        return len(self.action) + len(self.document) + 2

    def letter(self, reason: str, explanation: str) -> DeadLetter:
        """This record as a dead letter."""
        return DeadLetter(self.record, reason, explanation, self.model, self.request_id)


def to_entry(record: Message) -> Entry:
    """The entry of a log record.

    Raises:
        ValueError: the record is not a log event.
    """
    try:
        event = decode_log(record.value() or b"")
        document = to_fields(event)
        line = encode(document)
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    index, identity = index_name(event.accepted_at), document_id(event.request_id)
    # The index name is made of digits and dots, so of the two only the id can need escaping.
    action = b'{"create":{"_index":"%b","_id":%b}}' % (index.encode(), _encode_json(identity))
    return Entry(record, index, identity, event.model, event.request_id, document.inference.fingerprint, action, line)


def lines(entries: Iterable[Entry]) -> bytes:
    """The body of a bulk request."""
    parts: list[bytes] = []
    for entry in entries:
        parts += (entry.action, entry.document)
    parts.append(b"")
    return b"\n".join(parts)


class Batch:
    """Consecutive log records that are indexed, and whose offsets are committed, as one unit.

    No document is sent twice at a time: the items of a bulk request that is partly tried again, and two requests in
    flight, are carried out in any order, and the first record about a document has to win. Further records about it
    are `followers`: they are compared with the document when the batches `after` which they come, and the entries of
    their own, are settled.
    """

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.followers: list[Entry] = []
        self.letters: list[DeadLetter] = []
        self.actions: set[bytes] = set()
        self.after: list[Batch] = []
        self.settled = threading.Event()
        self.next_offsets: dict[Position, int] = {}
        self.records = 0
        self.bytes = 0

    def add(self, record: Message, under_way: Sequence["Batch"] = ()) -> None:
        """Add a record; `under_way` are the earlier batches that may not be settled yet."""
        self.records += 1
        self.next_offsets[record.topic(), record.partition()] = record.offset() + 1
        try:
            entry = to_entry(record)
        except ValueError as error:
            self.bytes += len(record)
            self.letters.append(DeadLetter(record, UNDECODABLE, f"not a prediction log: {error}"))
            return
        self.bytes += entry.size
        action = entry.action
        if action in self.actions:
            self.followers.append(entry)
            return
        for batch in under_way:
            if action in batch.actions:
                self.followers.append(entry)
                if batch not in self.after:
                    self.after.append(batch)
                return
        self.actions.add(action)
        self.entries.append(entry)
