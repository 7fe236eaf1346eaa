"""A slice: a contiguous run of the records of one partition."""

from collections.abc import Iterable
from typing import Any, NamedTuple

import faust
from confluent_kafka import Message
from faust.types import TP

# The framing of a record on the wire and librdkafka's own book-keeping; so that a million tiny records count too.
RECORD_OVERHEAD_BYTES = 200


class Slice(NamedTuple):
    """Records ``first`` to ``next_offset - 1`` of one partition; offsets that the log no longer holds are in no record.

    `size` is the memory that the records take, in bytes, estimated.
    """

    tp: TP
    first: int
    next_offset: int
    records: list[Message]
    size: int

    def split(self, records: int) -> tuple["Slice", "Slice"]:
        """The first so many records, fewer than all, and the rest. Sizes are estimates, and add up to the whole."""
        first, rest = self.records[:records], self.records[records:]
        size = self.size * records // len(self.records)
        return (
            Slice(self.tp, self.first, first[-1].offset() + 1, first, size),
            Slice(self.tp, rest[0].offset(), self.next_offset, rest, self.size - size),
        )


def cut(messages: Iterable[Message], max_bytes: int) -> list[Slice]:
    """Cut messages, each partition's in offset order, into slices of at most `max_bytes` (or one record)."""
    # By plain tuples: a TP for each record would cost as much as all the rest here.
    open_runs: dict[tuple[str, int], tuple[list[Message], int]] = {}
    slices: list[Slice] = []
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


def _close(run: tuple[list[Message], int]) -> Slice:
    records, size = run
    first = records[0]
    return Slice(TP(first.topic(), first.partition()), first.offset(), records[-1].offset() + 1, records, size)


class SliceSchema(faust.Schema):  # type: ignore[misc]
    """Hands a slice to the agent as it is: the bytes are decoded by our code, where a bad record is a dead letter.

    (Faust acknowledges a message whose decoding failed before anyone hears of it.)
    """

    def loads_key(self, app: Any, message: Any, **_: Any) -> None:
        """A slice has no key."""

    def loads_value(self, app: Any, message: Any, **_: Any) -> Slice:
        """The slice itself."""
        value: Slice = message.value
        return value
