"""Which offset may be committed: never one at or above the lowest slice that is not finished."""

from collections import OrderedDict
from collections.abc import Hashable, Iterable
from dataclasses import dataclass, field
from time import monotonic
from typing import Generic, TypeVar

P = TypeVar("P", bound=Hashable)


@dataclass(slots=True)
class _Slice:
    next_offset: int
    since: float
    done: bool = False


@dataclass(slots=True)
class _Partition:
    #: Slices in offset order, by first offset: from the lowest unfinished one on.
    open: OrderedDict[int, _Slice] = field(default_factory=OrderedDict)
    #: Everything below is finished. None until a slice was finished: the committed offset is not ours to repeat.
    finished_below: int | None = None
    #: The next slice has to begin here or later.
    begun_below: int = 0
    committed: int | None = None


class OffsetTracker(Generic[P]):
    """Tracks the slices in flight of each assigned partition. Not thread-safe: it belongs to the event loop.

    `begin` a slice when it is handed out, `finish` it when every output of it is acknowledged, in any order, then
    commit what `committable` says. A partition that was revoked forgets everything: to finish its slices later does
    nothing.
    """

    def __init__(self) -> None:
        self._partitions: dict[P, _Partition] = {}
        # When the slice that was begun first was last another one.
        self._advanced = monotonic()

    def assign(self, partitions: Iterable[P]) -> None:
        """Start afresh for newly assigned partitions."""
        for partition in partitions:
            self._partitions[partition] = _Partition()

    def revoke(self, partitions: Iterable[P]) -> None:
        """Forget partitions, with their slices in flight: whoever gets them next starts at the committed offset."""
        for partition in partitions:
            self._partitions.pop(partition, None)

    def begin(self, partition: P, first: int, next_offset: int) -> None:
        """A slice of records ``first`` to ``next_offset - 1`` is handed out.

        Raises:
            KeyError: the partition is not assigned.
            ValueError: the slice is empty, or begins below the end of the one before it.
        """
        state = self._partitions[partition]
        if first >= next_offset:
            raise ValueError(f"empty slice {first}..{next_offset} of {partition}")
        if first < state.begun_below:
            raise ValueError(f"slice {first}..{next_offset} of {partition} begins below {state.begun_below}")
        state.open[first] = _Slice(next_offset, monotonic())
        state.begun_below = next_offset

    def finish(self, partition: P, first: int, next_offset: int) -> bool:
        """Every output of a slice is acknowledged; False if the slice is not (or no more) ours, or finished already."""
        state = self._partitions.get(partition)
        found = state.open.get(first) if state is not None else None
        # A slice of an earlier assignment may come late, and begin where a longer one of this assignment does.
        if state is None or found is None or found.done or found.next_offset != next_offset:
            return False
        if found is self._head()[2]:
            self._advanced = monotonic()
        found.done = True
        while state.open:
            lowest = next(iter(state.open.values()))
            if not lowest.done:
                break
            state.finished_below = lowest.next_offset
            state.open.popitem(last=False)
        return True

    def committable(self) -> dict[P, int]:
        """Per partition the offset to commit (the next one to read), where it moved since `committed`."""
        return {
            partition: state.finished_below
            for partition, state in self._partitions.items()
            if state.finished_below is not None and state.finished_below != state.committed
        }

    def committed(self, offsets: dict[P, int]) -> None:
        """The broker took these offsets."""
        for partition, offset in offsets.items():
            state = self._partitions.get(partition)
            if state is not None:
                state.committed = offset

    def unfinished(self) -> int:
        """The number of slices that were begun and are not finished, over all partitions."""
        return sum(not found.done for state in self._partitions.values() for found in state.open.values())

    def oldest(self) -> tuple[P, int, float] | None:
        """Of the unfinished slices the one that was begun first: partition, first offset, and seconds at the head.

        It is at the head since the one before it was finished: what waits behind slices that get done is not stuck,
        however long it waits. What is lost comes to the head, and stays there. None if no slice is unfinished.
        """
        if not any(state.open for state in self._partitions.values()):
            return None
        partition, first, head = self._head()
        return partition, first, monotonic() - max(head.since, self._advanced)

    def _head(self) -> tuple[P, int, _Slice]:
        # The first open slice of a partition is never done.
        lowest = [(p, *next(iter(state.open.items()))) for p, state in self._partitions.items() if state.open]
        return min(lowest, key=lambda item: item[2].since)
