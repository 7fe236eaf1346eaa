"""Partition batches: contiguous runs of the records of one partition. Pure: neither a Kafka client nor Faust."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from confluent_kafka import Message

# Estimated framing of a record and librdkafka's bookkeeping: a million tiny records take memory, too.
RECORD_OVERHEAD_BYTES = 200


class TP(NamedTuple):
    """A partition of a topic. Compares equal to Faust's `TP`, since both are tuples."""

    topic: str
    partition: int


class PartitionBatch(NamedTuple):
    """Records ``first`` to ``next_offset - 1`` of one partition; compacted offsets and markers have no record.

    `size` is the estimated memory of the records, in bytes.
    """

    tp: TP
    first: int
    next_offset: int
    records: "list[Message]"
    size: int

    def join(self, following: "PartitionBatch") -> "PartitionBatch":
        """This batch and the following one of its partition as one. It reuses this batch's list, which grows."""
        self.records.extend(following.records)
        return self._replace(next_offset=following.next_offset, size=self.size + following.size)

    def split(self, records: int) -> tuple["PartitionBatch", "PartitionBatch"]:
        """The first `records` records, fewer than all, and the rest. The two sizes add up to the size of the whole."""
        first, rest = self.records[:records], self.records[records:]
        size = self.size * records // len(self.records)
        return (
            PartitionBatch(self.tp, self.first, first[-1].offset() + 1, first, size),
            PartitionBatch(self.tp, rest[0].offset(), self.next_offset, rest, self.size - size),
        )


def split_into_batches(messages: "Iterable[Message]", max_bytes: int) -> list[PartitionBatch]:
    """Group messages by partition, into batches of at most `max_bytes` or of a single record.

    The messages of each partition must be in offset order.
    """
    # Plain tuples as keys: a TP for each record would cost as much as everything else here.
    open_runs: dict[tuple[str, int], tuple[list[Message], int]] = {}
    batches: list[PartitionBatch] = []
    for message in messages:
        tp = (message.topic(), message.partition())
        size = len(message) + RECORD_OVERHEAD_BYTES
        run = open_runs.get(tp)
        if run is not None and run[1] + size > max_bytes:
            batches.append(_close(run))
            run = None
        records, so_far = run or ([], 0)
        records.append(message)
        open_runs[tp] = (records, so_far + size)
    batches += [_close(run) for run in open_runs.values()]
    return batches


def _close(run: "tuple[list[Message], int]") -> PartitionBatch:
    records, size = run
    first = records[0]
    return PartitionBatch(TP(first.topic(), first.partition()), first.offset(), records[-1].offset() + 1, records, size)
