"""How late it is for windows: by our clock where all was read, by the stream where a backlog waits."""

from collections.abc import Collection, Mapping
from datetime import UTC, datetime
from typing import Any

from confluent_kafka import Consumer, KafkaError, Message


class EndsConsumer(Consumer):  # type: ignore[misc]
    """A consumer of one topic that knows which ends it came to.

    `ends` has the offset behind the last record by partition, as of when there was no other one. A high watermark would
    not do: behind a transaction's marker, or records that were deleted, it is out of reach.
    """

    def __init__(self, options: dict[str, Any]) -> None:
        super().__init__({**options, "enable.partition.eof": True})
        self.ends: dict[int, int] = {}

    def consume(self, *arguments: Any, **named: Any) -> list[Message]:
        """As `Consumer.consume`, ends included."""
        messages: list[Message] = super().consume(*arguments, **named)
        for message in messages:
            partition, offset = message.partition(), message.offset()
            if is_end(message) and partition is not None and offset is not None:
                self.ends[partition] = offset
        return messages


def is_end(message: Message) -> bool:
    """Whether this is no record, but the news that there is none."""
    error = message.error()
    return error is not None and error.code() == KafkaError._PARTITION_EOF


def stream_time(
    owned: Collection[int], next_offsets: Mapping[int, int], ends: Mapping[int, int], newest: Mapping[int, datetime]
) -> datetime | None:
    """Our time if all partitions were read to their ends, else that of the one which is most behind; None if nothing
    was read of it. A clock ahead of ours does not count.

    So what a watcher missed closes windows as it would have when it was new: rows that wait are not too late.

    Args:
        newest: when the newest request of what was read last was accepted, by partition.
    """
    times = [datetime.now(UTC)]
    for partition in owned:
        if ends.get(partition, -1) < next_offsets.get(partition, 0):
            if partition not in newest:
                return None
            times.append(newest[partition])
    return min(times)
