"""Partition batches between the thread that fetches them and the event loop, with their memory."""

from collections import deque
from collections.abc import Iterable

from stream_app.serving.batch import TP, PartitionBatch

MAX_BATCH_BYTES = 4 * 1024 * 1024


class BatchBuffer:
    """Fetched batches, in order. One thread may `append`; `take` and `release` belong to one other thread."""

    def __init__(self) -> None:
        self._batches: deque[PartitionBatch] = deque()
        # Each counter has one writer, so the difference needs no lock.
        self._bytes_in = 0
        self._bytes_out = 0

    @property
    def size(self) -> int:
        """Memory of the batches that were appended and not released, in bytes."""
        return self._bytes_in - self._bytes_out

    def size_with(self, batches: Iterable[PartitionBatch]) -> int:
        """`size` once these batches are appended, too."""
        return self.size + sum(batch.size for batch in batches)

    def append(self, batch: PartitionBatch) -> None:
        """Add a batch at the end."""
        self._bytes_in += batch.size
        self._batches.append(batch)

    def release(self, size: int) -> None:
        """Free the `size` bytes of a batch that was taken and is finished."""
        self._bytes_out += size

    def take(self, active: set[TP], batches: int, records: int) -> list[PartitionBatch]:
        """Remove batches of the `active` partitions, in order; those of other partitions stay.

        If more batches wait than are taken, those of one partition are joined. Otherwise records that arrived one by
        one would leave one by one, a few per round trip to the broker, even while they arrive faster than that.

        Args:
            active: the partitions to take from.
            batches: maximum number of batches.
            records: maximum number of records of each batch; a larger one is split.
        """
        taken: list[PartitionBatch] = []
        kept: list[PartitionBatch] = []
        last: dict[TP, int] = {}
        join = len(self._batches) > batches > 0
        while self._batches and batches > 0:
            batch = self._batches.popleft()
            if batch.tp not in active:
                kept.append(batch)
                continue
            if join and batch.tp in last and _fit(taken[last[batch.tp]], batch, records):
                taken[last[batch.tp]] = taken[last[batch.tp]].join(batch)
                continue
            if len(taken) >= batches:
                self._batches.appendleft(batch)
                break
            if len(batch.records) > records:
                batch, rest = batch.split(records)
                self._batches.appendleft(rest)
            last[batch.tp] = len(taken)
            taken.append(batch)
        self._batches.extendleft(reversed(kept))
        return taken


def _fit(first: PartitionBatch, second: PartitionBatch, records: int) -> bool:
    """Whether two batches together are within both limits."""
    return len(first.records) + len(second.records) <= records and first.size + second.size <= MAX_BATCH_BYTES
