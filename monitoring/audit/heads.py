"""What retention has taken of the topics: the audit must not call it lost, and must not overlook it either."""

import math
from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from itertools import pairwise
from typing import Any, NamedTuple

MARGIN_SECONDS = 0.1
"""By how much the clocks of broker and worker may differ."""


class Marks(NamedTuple):
    """Offsets of a partition: of its first record, and behind its last one."""

    low: int
    high: int


class TopicHead:
    """Where a topic begins; complete once it is read."""

    def __init__(self, marks: Mapping[int, tuple[int, int]] | None = None) -> None:
        self.marks = {partition: Marks(*found) for partition, found in (marks or {}).items()}
        """As they were before the topic was read."""
        self.read: Counter[int] = Counter()
        """Number of records by partition."""
        self._first: dict[int, float] = {}

    def note(self, partition: int, seconds: float) -> None:
        """Note a record that was read, written `seconds` after 1970."""
        self.read[partition] += 1
        self._first.setdefault(partition, seconds)

    def begins_at(self, partition: int) -> float:
        """When the first record of a partition was written; 0 if none was deleted, infinity if none is left."""
        found = self._partition(partition)
        return 0.0 if self.is_complete(partition) else self._first.get(found, math.inf)

    def is_complete(self, partition: int) -> bool:
        """Whether no record was deleted."""
        return not self.marks or self.marks[self._partition(partition)].low == 0

    def _partition(self, requests: int) -> int:
        # The worker writes the outputs of a request to the partition that has its number, modulo their count.
        return requests % len(self.marks) if self.marks else requests


class Heads:
    """Where each topic begins.

    Args:
        committed: the worker's next offset of each partition of requests; missing if it has committed none.
        whole: whether all requests are audited; if not, it is unknown which of the deleted ones belong to them.
    """

    def __init__(
        self,
        requests: TopicHead | None = None,
        results: TopicHead | None = None,
        dead_letters: TopicHead | None = None,
        logs: TopicHead | None = None,
        *,
        committed: Mapping[int, int] | None = None,
        whole: bool = True,
    ) -> None:
        self.requests, self.results = requests or TopicHead(), results or TopicHead()
        self.dead_letters, self.logs = dead_letters or TopicHead(), logs or TopicHead()
        self._committed = committed or {}
        self._whole = whole

    @property
    def requests_deleted(self) -> bool:
        """Whether requests were deleted whose outcomes may still be there."""
        return any(marks.low for marks in self.requests.marks.values())

    def judged_since(self, partition: int, *, readable: bool) -> float:
        """From when on a request of a partition must have its outcome in the topics, in seconds since 1970.

        Args:
            readable: whether it is a request that a worker can read. Only others become dead letters.
        """
        return (self.results if readable else self.dead_letters).begins_at(partition) + MARGIN_SECONDS

    def skipped(self) -> int:
        """How many offsets were deleted before the worker committed one behind them."""
        marks = self.requests.marks.items() if self._whole else ()
        return sum(max(0, low - self._committed.get(partition, low)) for partition, (low, _) in marks)

    def expired(
        self,
        answered: Mapping[int, int],
        dead_lettered: Collection[tuple[int, int]],
        logged: Mapping[int, Collection[int]],
    ) -> int:
        """How many requests were deleted before a worker scored them.

        Args:
            answered: the number of ids with results but without a request, by the partition of the results.
            dead_lettered: partition and offset of the requests that became dead letters.
            logged: the offsets of the logged requests, by partition.
        """
        if not self._whole:
            return 0
        letters: defaultdict[int, set[int]] = defaultdict(set)
        for partition, offset in dead_lettered:
            letters[partition].add(offset)
        found = 0
        for partition, (low, high) in self.requests.marks.items():
            skipped = max(0, low - self._committed.get(partition, low))
            if low and self.requests.read[partition] == high - low:
                # Else there are markers of transactions among the requests, and offsets can't be counted.
                rejected = {offset for offset in letters[partition] if offset < low}
                answers = answered.get(partition, 0)
                skipped = max(skipped, self._missing(partition, low, {*logged.get(partition, ())}, rejected, answers))
            found += skipped
        return found

    def _missing(self, partition: int, low: int, logged: set[int], rejected: set[int], answers: int) -> int:
        """Of the offsets below `low`, those that left no trace in a topic that is complete."""
        known = logged | rejected
        accounted = []
        if self.logs.marks and self.logs.is_complete(partition):
            accounted.append(len(known))
        if len(self.results.marks) == len(self.requests.marks) and self.results.is_complete(partition):
            accounted.append(answers + len(rejected))
        if accounted:
            return max(0, low - max(accounted))
        # Of what came before the first log that is left, nothing is known. A single offset may be a marker.
        ordered = sorted(known)
        gaps = [later - earlier - 1 for earlier, later in pairwise(ordered)]
        return sum(gap for gap in gaps if gap > 1)


class SourceHead(Heads):
    """Where an existing topic begins.

    Args:
        starts: the first offset of each partition that workers read; 0 where it is missing.
    """

    def __init__(self, *heads: TopicHead, starts: Mapping[int, int], **more: Any) -> None:
        super().__init__(*heads, **more)
        self.starts = starts
