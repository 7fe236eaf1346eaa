"""The offsets that may be committed: never one above the lowest unfinished batch of a partition."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeVar

P = TypeVar("P", bound=Hashable)


@dataclass(slots=True)
class _Batch:
    next_offset: int
    since: float
    done: bool = False


@dataclass(slots=True)
class _Partition:
    #: Batches by first offset, in offset order, from the lowest unfinished one on.
    open: OrderedDict[int, _Batch] = field(default_factory=OrderedDict)
    #: All records below are finished. None until a batch is finished: the broker's committed offset stays as it is.
    committable_offset: int | None = None
    #: The next batch has to begin here or later.
    next_expected_offset: int = 0
    committed: int | None = None


class OffsetTracker(Generic[P]):
    """Tracks the in-flight batches of each assigned partition. Not thread-safe: it belongs to the event loop.

    `begin` a batch when it is handed out, `finish` it when all of its outputs are acknowledged, in any order, then
    commit the `committable` offsets. Revoking a partition forgets its batches: to finish one later has no effect.
    """

    def __init__(self) -> None:
        self._partitions: dict[P, _Partition] = {}
        # When the oldest unfinished batch last changed.
        self._head_since = monotonic()

    def assign(self, partitions: Iterable[P]) -> None:
        """Start afresh for newly assigned partitions."""
        for partition in partitions:
            self._partitions[partition] = _Partition()

    def revoke(self, partitions: Iterable[P]) -> None:
        """Forget partitions and their in-flight batches: the next owner starts at the committed offset."""
        for partition in partitions:
            self._partitions.pop(partition, None)

    def begin(self, partition: P, first: int, next_offset: int) -> None:
        """Note that a batch of the records ``first`` to ``next_offset - 1`` is handed out.

        Raises:
            KeyError: the partition is not assigned.
            ValueError: the batch is empty, or begins below the end of the one before it.
        """
        state = self._partitions[partition]
        if first >= next_offset:
            raise ValueError(f"empty batch {first}..{next_offset} of {partition}")
        if first < state.next_expected_offset:
            raise ValueError(f"batch {first}..{next_offset} of {partition} begins below {state.next_expected_offset}")
        state.open[first] = _Batch(next_offset, monotonic())
        state.next_expected_offset = next_offset

    def finish(self, partition: P, first: int, next_offset: int) -> bool:
        """Note that all outputs of a batch are acknowledged.

        Returns:
            False if the batch is unknown (its partition was revoked) or was finished before.
        """
        state = self._partitions.get(partition)
        found = state.open.get(first) if state is not None else None
        # A late batch of an earlier assignment may begin where a longer one of this assignment does.
        if state is None or found is None or found.done or found.next_offset != next_offset:
            return False
        if found is self._head()[2]:
            self._head_since = monotonic()
        found.done = True
        while state.open:
            lowest = next(iter(state.open.values()))
            if not lowest.done:
                break
            state.committable_offset = lowest.next_offset
            state.open.popitem(last=False)
        return True

    def reach_end(self, partition: P, read: int | None, end: int) -> None:
        """Note that a partition has no record from `read`, the offset behind the last one read, up to `end`.

        What lies there, such as a transaction's marker, is finished if everything before it is.

        Args:
            read: None if nothing was read since the partition was assigned.
        """
        state = self._partitions.get(partition)
        if state is None or state.open or end < state.next_expected_offset:
            return
        if read is None or read == state.next_expected_offset:
            state.committable_offset = state.next_expected_offset = end

    def has_unfinished(self, partition: P) -> bool:
        """Whether batches of a partition were begun and are not finished."""
        state = self._partitions.get(partition)
        return state is not None and bool(state.open)

    def committable(self) -> dict[P, int]:
        """The offset to commit (the next one to read) for each partition where it moved since `committed`."""
        return {
            partition: state.committable_offset
            for partition, state in self._partitions.items()
            if state.committable_offset is not None and state.committable_offset != state.committed
        }

    def committed(self, offsets: dict[P, int]) -> None:
        """Note that the broker accepted these offsets."""
        for partition, offset in offsets.items():
            state = self._partitions.get(partition)
            if state is not None:
                state.committed = offset

    def unfinished(self) -> int:
        """The number of batches that were begun and are not finished, over all partitions."""
        return sum(not found.done for state in self._partitions.values() for found in state.open.values())

    def oldest(self) -> tuple[P, int, float] | None:
        """The unfinished batch that was begun first: partition, first offset, and seconds as the oldest one.

        The seconds count from the moment the batch became the oldest: a batch that waits behind others that are
        finished one by one is not stalled, but a lost batch becomes the oldest and stays it. None if all are finished.
        """
        if not any(state.open for state in self._partitions.values()):
            return None
        partition, first, head = self._head()
        return partition, first, monotonic() - max(head.since, self._head_since)

    def _head(self) -> tuple[P, int, _Batch]:
        # The first open batch of a partition is never done.
        lowest = [(p, *next(iter(state.open.items()))) for p, state in self._partitions.items() if state.open]
        return min(lowest, key=lambda item: item[2].since)
