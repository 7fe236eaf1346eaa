"""Batches of records, as entries of bulk requests. Nothing here does input or output."""

import threading
from collections.abc import Iterable, Mapping, Sequence

from confluent_kafka import Message

from machine_learning_engineering.core.validation import redact_decoder_message
from machine_learning_engineering.dead_letters.writer import DeadLetter
from monitoring.indexer.projections import PROJECTIONS, Entry, Projection

Position = tuple[str, int]
"""Topic and partition."""


def lines(entries: Iterable[Entry]) -> bytes:
    """The body of a bulk request."""
    parts: list[bytes] = []
    for entry in entries:
        parts += (entry.action, entry.document)
    parts.append(b"")
    return b"\n".join(parts)


class Batch:
    """Consecutive records that are indexed, and whose offsets are committed, as one unit.

    No document is sent twice at a time: the items of a bulk request that is partly tried again, and two requests in
    flight, are carried out in any order, and the first record about a document has to win. Further entries about it
    are `followers`: they are settled when the batches `after` which they come, and the entries of their own, are.

    Args:
        projections: by the name of the topic in this deployment.
    """

    def __init__(self, projections: Mapping[str, Projection] = PROJECTIONS) -> None:
        self._projections = projections
        self.entries: list[Entry] = []
        self.followers: list[Entry] = []
        self.letters: list[DeadLetter] = []
        self.actions: set[bytes] = set()
        self.after: list[Batch] = []
        self.settled = threading.Event()
        self.next_offsets: dict[Position, int] = {}
        self.records = 0
        self.bytes = 0
        """Of the bulk request, or of the records where these are larger: both are held in memory."""

    def add(self, record: Message, under_way: Sequence["Batch"] = ()) -> None:
        """Add a record; `under_way` are the earlier batches that may not be settled yet."""
        topic = record.topic()
        projection = self._projections[topic]
        self.records += 1
        self.next_offsets[topic, record.partition()] = record.offset() + 1
        try:
            entries = projection.entries(record)
        except (ValueError, OverflowError, RecursionError) as error:
            # The second one comes of a time or a duration that Python has no number for.
            why = "nested too deeply" if isinstance(error, RecursionError) else redact_decoder_message(error)
            self.bytes += len(record)
            self.letters.append(DeadLetter(record, projection.undecodable, f"not a {projection.what}: {why}"))
            return
        size = 0
        for entry in entries:
            size += entry.size
            self._place(entry, under_way)
        self.bytes += max(size, len(record))

    def _place(self, entry: Entry, under_way: Sequence["Batch"]) -> None:
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
