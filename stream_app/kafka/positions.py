"""The positions of a consumer in its partitions, and the events that move them without a record."""

import logging
from collections.abc import Iterable
from typing import Any

from confluent_kafka import Consumer, KafkaError, KafkaException, Message

from machine_learning_engineering.events.unreadable import UnreadableRecord
from machine_learning_engineering.kafka.connection import error_logger
from machine_learning_engineering.kafka.positions import (
    OffsetReset,
    OffsetResets,
    is_end,
    is_out_of_range,
    is_unreadable,
    skip_unreadable,
)
from machine_learning_engineering.observability.rate_limit import RATE_LIMITED
from stream_app.kafka.starts import GroupStarts
from stream_app.serving.batch import TP, PartitionBatch

logger = logging.getLogger(__name__)


class Positions:
    """What was read of each partition since its assignment. Only `ends` may be called by another thread.

    Args:
        options: librdkafka's, for a second client that finds the end of an unreadable batch.
        starts: where partitions begin without a committed offset.
    """

    def __init__(self, consumer: Consumer, options: dict[str, Any], starts: GroupStarts) -> None:
        self._consumer = consumer
        self._options = options
        self._log_error = error_logger(options)
        self._starts = starts
        self._resets = OffsetResets(consumer, starts.first)
        # The offset behind the last record read, and the end of the partition, while it is there.
        self._read: dict[TP, int] = {}
        self._ends: dict[TP, tuple[int | None, int]] = {}

    @property
    def is_resetting(self) -> bool:
        """Whether a partition waits for `reset`."""
        return self._resets.is_pending

    def ends(self) -> dict[TP, tuple[int | None, int]]:
        """The partitions that were read to their ends; see `OffsetTracker.reach_end`."""
        return dict(self._ends)

    def forget(self) -> None:
        """Start afresh: the partitions were assigned or revoked."""
        self._resets.clear()
        self._read.clear()
        self._ends.clear()

    def advance(self, batch: PartitionBatch) -> None:
        """Note a batch that was read, before anyone else sees it: else everything before its end would seem read."""
        self._ends.pop(batch.tp, None)
        self._read[batch.tp] = batch.next_offset

    def follow(self, events: Iterable[Message]) -> list[UnreadableRecord]:
        """Handle messages that are not records, and return what takes the place of unreadable batches.

        Raises:
            KafkaException: a permanent error.
        """
        skipped: list[UnreadableRecord] = []
        for event in events:
            if is_end(event):
                tp = TP(event.topic(), event.partition())
                read = self._read.get(tp)
                # Not an end that records followed.
                if read is None or event.offset() >= read:
                    self._ends[tp] = read, event.offset()
            elif is_out_of_range(event):
                self._resets.note(event)
            elif is_unreadable(event) and (record := skip_unreadable(self._consumer, self._options, event)) is not None:
                logger.error("%s", record.explanation, extra=RATE_LIMITED)
                skipped.append(record)
            else:
                self._check(event.error())
        return skipped

    def reset(self) -> list[OffsetReset]:
        """Restart the partitions whose offset is out of range."""
        resets = self._resets.apply()
        for reset in resets:
            tp = TP(reset.topic, reset.partition)
            self._ends.pop(tp, None)
            if reset.restarted:
                self._starts.restarted(tp)
                self._read.pop(tp, None)
        return resets

    def _check(self, error: KafkaError) -> None:
        # librdkafka recovers from all but fatal errors: an unreachable broker, a topic that is not created yet.
        if error.fatal():
            raise KafkaException(error)
        self._log_error(error)
