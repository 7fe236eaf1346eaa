"""Partition batches: contiguous runs of the records of one partition. Pure: neither a Kafka client nor Faust."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from machine_learning_engineering.events.headers import MAX_CARRIED_BYTES, RecordHeaders, headers_of
from machine_learning_engineering.events.unreadable import TOO_LARGE, UnreadableRecord, cut_headers

if TYPE_CHECKING:
    from confluent_kafka import Message

# Estimated framing of a record and librdkafka's bookkeeping: a million tiny records take memory, too.
RECORD_OVERHEAD_BYTES = 200
# The same of a header, which has a tuple and two objects.
HEADER_OVERHEAD_BYTES = 150
MAX_KEY_BYTES = 16 * 1024
"""Result and log record repeat the key: with it, they have to fit into records of their topics."""
MAX_HEADERS = 100
MAX_HEADER_BYTES = 64 * 1024


_Run = tuple["list[Message | UnreadableRecord]", int]
"""Records of one partition, and their size in bytes."""


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
    records: "list[Message | UnreadableRecord]"
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


def split_into_batches(messages: "Iterable[Message | UnreadableRecord]", max_bytes: int) -> list[PartitionBatch]:
    """Group messages by partition, into batches of at most `max_bytes` or of a single record.

    The messages of each partition must be in offset order. One whose key or headers are too large becomes an
    `UnreadableRecord`.
    """
    open_runs: dict[tuple[str, int], _Run] = {}
    batches: list[PartitionBatch] = []
    # A consumer hands out many records of a partition in a row.
    tp: tuple[str, int] = ("", -1)
    records: list[Message | UnreadableRecord] = []
    total = 0
    for message in messages:
        key, headers = message.key(), headers_of(message)
        size = len(message) + RECORD_OVERHEAD_BYTES
        if headers or key:
            size += len(key or b"")
            if headers or size > MAX_KEY_BYTES:
                message, size = _bounded(message, key, headers)
        found = (message.topic(), message.partition())
        if found != tp:
            if records:
                open_runs[tp] = records, total
            tp = found
            records, total = open_runs.get(tp) or ([], 0)
        if records and total + size > max_bytes:
            batches.append(_close((records, total)))
            records, total = [], 0
        records.append(message)
        total += size
    if records:
        open_runs[tp] = records, total
    batches += [_close(run) for run in open_runs.values()]
    return batches


def extend_batches(
    batches: list[PartitionBatch], messages: "Iterable[Message | UnreadableRecord]", max_bytes: int
) -> None:
    """Add further messages to batches, as if `split_into_batches` had got all at once."""
    last = {batch.tp: index for index, batch in enumerate(batches)}
    for batch in split_into_batches(messages, max_bytes):
        index = last.get(batch.tp)
        if index is not None and batches[index].size + batch.size <= max_bytes:
            batches[index] = batches[index].join(batch)
        else:
            last[batch.tp] = len(batches)
            batches.append(batch)


def _bounded(
    message: "Message | UnreadableRecord", key: bytes | None, headers: RecordHeaders
) -> "tuple[Message | UnreadableRecord, int]":
    """A record, or what takes its place if its key or headers are too large to be kept in memory, and its size."""
    header_bytes = sum(len(name) + len(value or b"") for name, value in headers)
    if key and len(key) > MAX_KEY_BYTES:
        what = f"the key has {len(key):,} bytes; at most {MAX_KEY_BYTES:,} are allowed"
    elif len(headers) > MAX_HEADERS:
        what = f"the record has {len(headers):,} headers; at most {MAX_HEADERS} are allowed"
    elif header_bytes > MAX_HEADER_BYTES:
        what = f"the headers have {header_bytes:,} bytes; at most {MAX_HEADER_BYTES:,} are allowed"
    else:
        size = len(message) + len(key or b"") + header_bytes + len(headers) * HEADER_OVERHEAD_BYTES
        return message, size + RECORD_OVERHEAD_BYTES
    kept = cut_headers(headers[:MAX_HEADERS], MAX_CARRIED_BYTES)
    short = UnreadableRecord(
        message.topic(),
        message.partition(),
        message.offset(),
        TOO_LARGE,
        f"{what}. This dead letter keeps a part of them",
        key=key and key[:MAX_KEY_BYTES],
        value=message.value(),
        headers=kept,
        timestamp=message.timestamp(),
        truncated=len(message) + len(key or b"") + header_bytes,
    )
    return short, len(message) + MAX_KEY_BYTES + MAX_CARRIED_BYTES + RECORD_OVERHEAD_BYTES


def _close(run: "_Run") -> PartitionBatch:
    records, size = run
    first = records[0]
    return PartitionBatch(TP(first.topic(), first.partition()), first.offset(), records[-1].offset() + 1, records, size)
