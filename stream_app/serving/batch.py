"""A slice: a contiguous run of the records of one partition."""

from collections.abc import Iterable
from typing import NamedTuple

from confluent_kafka import Message
from faust.types import TP

# The framing of a record on the wire and librdkafka's own book-keeping; so that a million tiny records count too.
RECORD_OVERHEAD_BYTES = 200


class PartitionBatch(NamedTuple):
    """Records ``first`` to ``next_offset - 1`` of one partition; offsets that the log no longer holds are in no record.

    `size` is the memory that the records take, in bytes, estimated.
    """

    tp: TP
    first: int
    next_offset: int
    records: list[Message]
    size: int

    def split(self, records: int) -> tuple["PartitionBatch", "PartitionBatch"]:
        """The first so many records, fewer than all, and the rest. Sizes are estimates, and add up to the whole."""
        first, rest = self.records[:records], self.records[records:]
        size = self.size * records // len(self.records)
        return (
            PartitionBatch(self.tp, self.first, first[-1].offset() + 1, first, size),
            PartitionBatch(self.tp, rest[0].offset(), self.next_offset, rest, self.size - size),
        )


def cut(messages: Iterable[Message], max_bytes: int) -> list[PartitionBatch]:
    """Cut messages, each partition's in offset order, into slices of at most `max_bytes` (or one record)."""
    # By plain tuples: a TP for each record would cost as much as all the rest here.
    open_runs: dict[tuple[str, int], tuple[list[Message], int]] = {}
    slices: list[PartitionBatch] = []
    for message in messages:
        place = (message.topic(), message.partition())
        size = len(message) + RECORD_OVERHEAD_BYTES
        run = open_runs.get(place)
        if run is not None and run[1] + size > max_bytes:
            slices.append(_close(run))
            run = None
        records, so_far = run or ([], 0)
        records.append(message)
        open_runs[place] = (records, so_far + size)
    slices += [_close(run) for run in open_runs.values()]
    return slices


def _close(run: tuple[list[Message], int]) -> PartitionBatch:
    records, size = run
    first = records[0]
    return PartitionBatch(TP(first.topic(), first.partition()), first.offset(), records[-1].offset() + 1, records, size)
