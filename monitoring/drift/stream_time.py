"""The time by which windows close: ours at the end of all partitions, the stream's own while there is a backlog."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message


class EofConsumer(Consumer):  # type: ignore[misc]
    """A consumer of one topic that records the ends of partitions.

    `eof_offsets` is the offset behind the last record, by partition, when the end was reached. A high watermark would
    not do: a transaction's marker and deleted records lie before it and are never delivered.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__({**options, "enable.partition.eof": True})
        self.eof_offsets: dict[int, int] = {}

    def consume(self, *arguments: Any, **named: Any) -> list[Message]:
        """Same as `Consumer.consume`, including the end-of-partition events."""
        messages: list[Message] = super().consume(*arguments, **named)
        for message in messages:
            partition, offset = message.partition(), message.offset()
            if is_eof(message) and partition is not None and offset is not None:
                self.eof_offsets[partition] = offset
        return messages


def is_eof(message: Message) -> bool:
    """Whether this is an end-of-partition event."""
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def stream_time(
    owned: Collection[int],
    next_offsets: Mapping[int, int],
    eof_offsets: Mapping[int, int],
    newest: Mapping[int, datetime],
) -> datetime | None:
    """Our time if all partitions were read to their ends, else the time of the partition that is furthest behind.

    A backlog therefore closes the same windows as a live stream: rows that wait are never late. A producer's clock
    ahead of ours has no effect.

    Args:
        newest: by partition, the latest acceptance time in what was read last.

    Returns:
        None if a partition has a backlog and nothing was read from it yet.
    """
    times = [datetime.now(UTC)]
    for partition in owned:
        if eof_offsets.get(partition, -1) < next_offsets.get(partition, 0):
            if partition not in newest:
                return None
            times.append(newest[partition])
    return min(times)
