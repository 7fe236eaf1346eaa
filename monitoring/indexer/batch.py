"""Batches of records, as entries of bulk requests. No I/O."""

import threading
from collections.abc import Mapping, Sequence

from confluent_kafka import Message

from machine_learning_engineering.core.validation import redact_decoder_message
from machine_learning_engineering.dead_letters.writer import RejectedRecord
from machine_learning_engineering.events.unreadable import UnreadableRecord
from monitoring.indexer.projections import PROJECTIONS, Entry, Projection
from monitoring.runtime.consumer import Position


class Batch:
    """Consecutive records that are indexed, and whose offsets are committed, as one unit.

    No document is sent twice at a time: retried items of a bulk request, and two requests in flight, are executed in
    any order, and the first record of a document has to win. Further entries of a document are `deferred` until the
    entries of this batch, and the earlier batches `after` which they come, are settled.

    Args:
        projections: by the name of the topic in this deployment.
    """

    def __init__(self, projections: Mapping[str, Projection] = PROJECTIONS) -> None:
        self._projections = projections
        self.entries: list[Entry] = []
        self.deferred: list[Entry] = []
        self.dead_letters: list[RejectedRecord] = []
        self.actions: set[bytes] = set()
        self.after: list[Batch] = []
        self.settled = threading.Event()
        self.next_offsets: dict[Position, int] = {}
        self.records = 0
        self.bytes = 0
        """Of the bulk request, or of the records if they are larger: both are held in memory."""

    def add(self, record: Message, in_flight: Sequence["Batch"] = ()) -> None:
        """Add a record; `in_flight` are the earlier batches that may not be settled yet."""
        topic = record.topic()
        projection = self._projections[topic]
        self.records += 1
        self.next_offsets[topic, record.partition()] = record.offset() + 1
        if isinstance(record, UnreadableRecord):
            self.dead_letters.append(RejectedRecord(record, record.reason, record.explanation))
            return
        try:
            entries = projection.entries(record)
        except (ValueError, OverflowError, RecursionError) as error:
            # OverflowError: a time or a duration that is out of Python's range.
            why = "nested too deeply" if isinstance(error, RecursionError) else redact_decoder_message(error)
            self.bytes += len(record)
            explanation = f"not a {projection.what}: {why}"
            self.dead_letters.append(RejectedRecord(record, projection.undecodable, explanation))
            return
        size = 0
        for entry in entries:
            size += entry.size
            self._enqueue(entry, in_flight)
        self.bytes += max(size, len(record))

    def _enqueue(self, entry: Entry, in_flight: Sequence["Batch"]) -> None:
        action = entry.action
        if action in self.actions:
            self.deferred.append(entry)
            return
        for batch in in_flight:
            if action in batch.actions:
                self.deferred.append(entry)
                if batch not in self.after:
                    self.after.append(batch)
                return
        self.actions.add(action)
        self.entries.append(entry)
