"""What a consumer is handed beside records: ends of partitions, unreadable batches, and offsets out of range.

Needs the extra `kafka` (confluent-kafka).
"""

import logging
import time
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, Message, TopicPartition

from machine_learning_engineering.events.unreadable import UNREADABLE_BATCH, UnreadableRecord

logger = logging.getLogger(__name__)

PROBE_SECONDS = 10.0
"""Maximum wait for the broker's response to one probe of a batch."""
BROKER_SECONDS = 5.0
"""Maximum wait for the watermarks of a partition."""
_RESET_PAUSE = 1.0
# The client could not unpack a batch: unknown or damaged compression, too large once unpacked, malformed, or a format
# that it does not know. It fetches the same batch again and again.
_UNREADABLE = (KafkaError._BAD_COMPRESSION, KafkaError._BAD_MSG, KafkaError._NOT_IMPLEMENTED)
# Not for a client that only probes: it joins no group, and nothing polls it for long.
_NOT_FOR_PROBES = ("error_cb", "stats_cb", "statistics.interval.ms", "on_commit")


def is_end(message: Message) -> bool:
    """Tell whether a message is an end-of-partition event.

    Its offset is the next one to read. It lies behind records that are never handed out: the markers of transactions,
    aborted records, compacted offsets. So it has to be committed, or these count as work forever.
    """
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def is_unreadable(message: Message) -> bool:
    """Tell whether a message is the error of a batch that the client can't unpack."""
    error, offset = message.error(), message.offset()
    return error is not None and error.code() in _UNREADABLE and offset is not None and offset >= 0


def is_out_of_range(message: Message) -> bool:
    """Tell whether a message says that a partition has no record at the consumer's offset, or that it has no offset."""
    error = message.error()
    return error is not None and error.code() == KafkaError._AUTO_OFFSET_RESET


def skip_unreadable(consumer: Consumer, options: Mapping[str, Any], message: Message) -> UnreadableRecord | None:
    """Move a consumer behind a batch that it can't unpack.

    Args:
        consumer: The consumer that got the error.
        options: Its options, for a second client that finds the end of the batch.
        message: The error; see `is_unreadable`.

    Returns:
        What takes the place of the batch, or None if the consumer has to try again: the batch can be read after all,
        the broker does not respond, or the partition was revoked.
    """
    topic, partition, first = message.topic(), message.partition(), message.offset()
    try:
        end = _end_of_batch(options, topic, partition, first)
        if end is None:
            return None
        consumer.seek(TopicPartition(topic, partition, end))
    except (KafkaException, TimeoutError) as error:
        logger.warning("an unreadable batch of %s %s at %s was not skipped: %s", topic, partition, first, error)
        return None
    explanation = (
        f"the batch of offsets {first} to {end - 1} can't be unpacked ({message.error().str()[:200]}): send it again, "
        "with less compression or smaller records"
    )
    return UnreadableRecord(topic, partition, end - 1, UNREADABLE_BATCH, explanation)


def _end_of_batch(options: Mapping[str, Any], topic: str, partition: int, first: int) -> int | None:
    """The offset behind the batch whose error has the offset `first`; None if that is readable now."""
    probe = Consumer(
        {name: value for name, value in options.items() if name not in _NOT_FOR_PROBES}
        | {"enable.partition.eof": True, "auto.offset.reset": "error", "fetch.message.max.bytes": 64 * 1024}
    )

    def fails(offset: int) -> bool:
        # A fetch within a batch gets the batch as a whole.
        probe.assign([TopicPartition(topic, partition, offset)])
        deadline = time.monotonic() + PROBE_SECONDS
        while time.monotonic() < deadline:
            for found in probe.consume(1, 0.5):
                if is_unreadable(found):
                    return bool(found.offset() == first)
                if found.error() is None or is_end(found) or is_out_of_range(found):
                    return False
        raise TimeoutError(f"the broker did not respond within {PROBE_SECONDS:g} s")

    try:
        if not fails(first):
            return None
        inside, outside = first, first + 1
        while fails(outside):
            inside, outside = outside, outside + 2 * (outside - first)
        while outside - inside > 1:
            middle = (inside + outside) // 2
            if fails(middle):
                inside = middle
            else:
                outside = middle
        return outside
    finally:
        probe.close()


_Where = tuple[str, int]


class OffsetReset(NamedTuple):
    """A partition that was read on from another offset than the next one.

    `position` is None if the group had committed none; `start` is `OFFSET_BEGINNING` then. `missing` records were
    deleted before they were read. If `restarted`, the partition ends before the position: its topic was deleted and
    created again.
    """

    topic: str
    partition: int
    position: int | None
    start: int
    missing: int
    restarted: bool


class OffsetResets:
    """Restarts partitions whose offset is out of range at their first record, and reports what was missed.

    Only for a consumer with ``auto.offset.reset: error``: with `earliest`, the client does so silently.

    Args:
        first: Given topic and partition: the offset to begin at where the group has none; the first one by default.
    """

    def __init__(self, consumer: Consumer, first: Callable[[str, int], int] | None = None) -> None:
        self._consumer = consumer
        self._first = first or (lambda _topic, _partition: OFFSET_BEGINNING)
        self._pending: dict[_Where, int | None] = {}
        self._starts: dict[_Where, int] = {}
        self._due = 0.0

    @property
    def is_pending(self) -> bool:
        """Whether a partition waits for `apply`."""
        return bool(self._pending)

    def note(self, message: Message) -> None:
        """Note an event; see `is_out_of_range`. The client has stopped reading the partition."""
        offset = message.offset()
        self._pending[message.topic(), message.partition()] = offset if offset is not None and offset >= 0 else None

    def apply(self) -> list[OffsetReset]:
        """Restart the noted partitions. Call it between two polls. While the broker does not respond, none restarts."""
        resets: list[OffsetReset] = []
        if not self._pending or time.monotonic() < self._due:
            return resets
        self._due = time.monotonic() + _RESET_PAUSE
        consumer = self._consumer
        try:
            assigned = consumer.assignment()
            starts, new = self._starts_of(assigned)
            for tp in assigned:
                where = (tp.topic, tp.partition)
                # Without an offset, and the partition has a start: an event of an assignment before this one.
                if where not in self._pending or (self._pending[where] is None and where not in new):
                    continue
                resets.append(self._reset_of(tp, self._pending[where]))
                if resets[-1].position is not None:
                    starts[where] = resets[-1].start
            if resets:
                # Seeking does not restart a stopped partition.
                consumer.assign([TopicPartition(*where, start) for where, start in starts.items()])
        except KafkaException as error:
            logger.warning("an offset out of range is not reset yet: %s", error.args[0].str())
            return []
        self._due = 0.0
        self._starts = starts if resets else self._starts
        self._pending.clear()
        return resets

    def _starts_of(self, assigned: list[TopicPartition]) -> tuple[dict[_Where, int], set[_Where]]:
        """Where to go on in each partition, and which of them have neither been read from nor been given a start.

        All get one at once. If a partition were assigned without, it would say once more that it has no offset; and
        that event may be handed out when the partition has been started, and read from, because of the first one.
        """
        starts: dict[_Where, int] = {}
        new = []
        for tp in self._consumer.position(assigned):
            where = (tp.topic, tp.partition)
            # Assigned anew, a partition has no position until it is read from.
            if tp.offset >= 0:
                starts[where] = tp.offset
            elif where in self._starts:
                starts[where] = self._starts[where]
            else:
                new.append(TopicPartition(*where))
        for tp in self._consumer.committed(new, timeout=BROKER_SECONDS) if new else ():
            if tp.error is not None:
                raise KafkaException(tp.error)
            starts[tp.topic, tp.partition] = tp.offset if tp.offset >= 0 else self._first(tp.topic, tp.partition)
        return starts, {(tp.topic, tp.partition) for tp in new}

    def _reset_of(self, tp: TopicPartition, position: int | None) -> OffsetReset:
        if position is None:
            # Nothing to count: the first record is not asked for. Each question waits for a fetch, half a second.
            return OffsetReset(tp.topic, tp.partition, None, OFFSET_BEGINNING, 0, restarted=False)
        low, high = self._consumer.get_watermark_offsets(tp, timeout=BROKER_SECONDS)
        restarted = position > high
        missing = 0 if restarted else max(0, low - position)
        return OffsetReset(tp.topic, tp.partition, position, low, missing, restarted)

    def clear(self) -> None:
        """Forget everything: the partitions were revoked."""
        self._pending.clear()
        self._starts.clear()
