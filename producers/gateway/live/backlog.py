"""The last records of all live streams of a gateway, shared by its subscribers. Pure.

No subscriber has a queue of its own: each has a number in this one, so that the memory does not grow with them.
"""

from collections.abc import Iterable, Mapping

from producers.gateway.live.positions import Place, Positions
from producers.gateway.live.records import Record


class Backlog:
    """Records by number, in the order in which they came.

    Args:
        max_records: the oldest are dropped first.
        max_bytes: of their texts.
    """

    def __init__(self, max_records: int, max_bytes: int) -> None:
        self._records: list[Record | None] = [None] * max_records
        self._max_bytes = max_bytes
        self._bytes = 0
        self.first = self.next = 0
        """Numbers of the oldest record, and of the one that will come."""
        self.start: Positions = {}
        """Positions before the oldest record."""
        self.end: Positions = {}
        """Positions behind the newest one."""
        self.generation = 0
        """Grows with each restart."""

    def add_places(self, positions: Mapping[Place, int]) -> None:
        """Begin to follow partitions at these positions."""
        self.start.update(positions)
        self.end.update(positions)

    def restart(self, positions: Mapping[Place, int]) -> None:
        """Forget all records: those of these partitions were deleted, and now begin here."""
        self.generation += 1
        while self.first < self.next:
            self._drop()
        self.add_places(positions)

    def add(self, records: Iterable[Record]) -> None:
        """Add records, in the order of each partition."""
        for one in records:
            if one.offset < self.end.get(one.place, 0):
                self.restart({one.place: one.offset})
            self._records[self.next % len(self._records)] = one
            self.next += 1
            self._bytes += len(one.text)
            self.end[one.place] = one.offset + 1
            while self.next - self.first == len(self._records) or self._bytes > self._max_bytes:
                self._drop()

    def get(self, first: int, count: int) -> list[Record]:
        """At most `count` records, from the number `first` of this call on, which is not below the backlog's own."""
        size = len(self._records)
        found = (self._records[number % size] for number in range(first, min(first + count, self.next)))
        return [one for one in found if one is not None]

    def covers(self, positions: Mapping[Place, int]) -> bool:
        """Whether all that comes behind these positions is here or will be."""
        return all(positions.get(place, 0) >= offset for place, offset in self.start.items() if place in positions)

    def _drop(self) -> None:
        size = len(self._records)
        dropped = self._records[self.first % size]
        assert dropped is not None
        self._records[self.first % size] = None
        self._bytes -= len(dropped.text)
        self.start[dropped.place] = dropped.offset + 1
        self.first += 1
