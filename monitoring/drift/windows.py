"""Open windows: counts of the rows of each model version, kept by partition so that they can move with it.

Nothing here does I/O. A window consists of one part from each partition of this process. Its size and its counts are
the sums over its parts.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple

import msgspec
from msgspec import Struct
from msgspec.structs import asdict

from machine_learning_engineering.drift.binning import count_into, merge
from machine_learning_engineering.drift.profile import Profile, without_features
from machine_learning_engineering.drift.serialization import SerializedWindow, deserialize, serialize
from machine_learning_engineering.events.schemas import DriftMeasured, Timestamp
from machine_learning_engineering.registry.profiles import ProfileCache
from monitoring.drift.batch import Batch, Row, decode_objects
from monitoring.drift.consecutive import ConsecutiveDrift, ConsecutiveWindows
from monitoring.drift.sampling import SampleBudget, sample
from monitoring.model_version import ModelVersion

DISCARDED_AFTER = 24
"""A window that has too few rows after this many periods is discarded."""


class Limits(NamedTuple):
    """A window closes at `rows` rows, or `period` after its first row if it has at least `min_rows` by then.

    `rows_per_second` bounds the rows that are counted of one version in one partition, in the long run.
    """

    rows: int
    period: timedelta
    min_rows: int
    rows_per_second: float


class Part(Struct):
    """One partition's share of the open window of a version; `first_offset` is its first row.

    `redacted` names features that were redacted in some of the rows. They are not compared: a token or a gap in place
    of a value would look like drift.
    """

    digest: str
    first_offset: int
    rows: int
    start: datetime
    end: datetime
    counts: Profile
    redacted: set[str]


class SavedPart(Struct, frozen=True):
    """A part as it is published: its counts, and the digest of the reference that has their bins."""

    model: str
    version: str
    digest: str
    first_offset: int
    rows: int
    start: Timestamp
    end: Timestamp
    counts: SerializedWindow
    redacted: list[str]


class State(Struct, frozen=True):
    """Everything that was counted before `next_offset` of a partition and is not measured yet.

    `consecutive` has the versions with rows in the partition.
    """

    next_offset: int
    parts: list[SavedPart]
    budgets: list[tuple[str, str, SampleBudget]]
    consecutive: list[tuple[str, str, ConsecutiveDrift]] = []


class OpenWindow(NamedTuple):
    """The rows of an open window, and when the first and the last of them were accepted."""

    rows: int
    start: datetime
    end: datetime


class ClosedWindow(NamedTuple):
    """A window to be measured. Its id is a digest of its version and of the first row of each part."""

    version: ModelVersion
    reference: Profile
    counts: Profile
    window_id: str
    start: datetime
    end: datetime
    rows: int
    closed_by: Literal["count", "time"]
    partitions: frozenset[int]


class Windows:
    """The open windows of the partitions that this process owns.

    `changed` has the partitions whose state has to be published; `row_counts` counts rows by result.
    """

    def __init__(self, references: ProfileCache, limits: Limits) -> None:
        self._references = references
        self._limits = limits
        self._parts: dict[int, dict[ModelVersion, Part]] = {}
        self._budgets: dict[int, dict[ModelVersion, SampleBudget]] = {}
        self.next_offsets: dict[int, int] = {}
        """By partition, the offset behind the last record read."""
        self._consecutive = ConsecutiveWindows()
        self.changed: set[int] = set()
        self.row_counts: Counter[str] = Counter()

    # State

    def state(self, partition: int) -> State:
        """The state that the partition's next owner needs."""
        parts = [
            SavedPart(*version, **asdict(part) | {"counts": serialize(part.counts), "redacted": sorted(part.redacted)})
            for version, part in self._parts.get(partition, {}).items()
        ]
        budgets = [(*version, budget) for version, budget in self._budgets.get(partition, {}).items()]
        return State(self.next_offsets[partition], parts, budgets, self._consecutive.of_partition(partition))

    def restore(self, partition: int, state: State) -> None:
        """Continue from a state. Parts whose reference has changed since are discarded."""
        self.next_offsets[partition] = state.next_offset
        self._budgets[partition] = {ModelVersion(model, version): budget for model, version, budget in state.budgets}
        # A version that left the registry has no further windows.
        self._consecutive.restore(partition, [one for one in state.consecutive if self._references.get(one[0], one[1])])
        for kept in state.parts:
            reference = self._references.get(kept.model, kept.version)
            try:
                if reference is None or reference.digest != kept.digest:
                    raise ValueError("the reference has changed")
                counts = deserialize(reference.profile, kept.counts)
            except ValueError:
                self.row_counts["discarded"] += kept.rows
                self.changed.add(partition)
                continue
            part = Part(kept.digest, kept.first_offset, kept.rows, kept.start, kept.end, counts, set(kept.redacted))
            self._parts.setdefault(partition, {})[ModelVersion(kept.model, kept.version)] = part

    def consecutive(self) -> dict[ModelVersion, ConsecutiveDrift]:
        """In how many consecutive windows, up to the last one, the fields of each version have drifted."""
        return self._consecutive.newest()

    def clear(self) -> None:
        """Forget all partitions: they were revoked."""
        self._parts.clear()
        self._budgets.clear()
        self.next_offsets.clear()
        self._consecutive.clear()
        self.changed.clear()

    def open(self) -> dict[ModelVersion, OpenWindow]:
        """The open windows."""
        windows: dict[ModelVersion, OpenWindow] = {}
        for parts in self._parts.values():
            for version, part in parts.items():
                rows, start, end = windows.get(version, (0, part.start, part.end))
                windows[version] = OpenWindow(rows + part.rows, min(start, part.start), max(end, part.end))
        return windows

    # Rows

    def add(self, batch: Batch) -> list[ClosedWindow]:
        """Count the rows of a batch; return the windows that it closes."""
        self.row_counts.update(batch.left_out)
        self.next_offsets.update(batch.next_offsets)
        self.changed.update(batch.next_offsets)
        closed: list[ClosedWindow] = []
        for (partition, version), rows in batch.runs.items():
            closed.extend(self._add(partition, version, rows))
        return closed

    def overdue(self, now: datetime) -> list[ClosedWindow]:
        """Close the windows whose period has ended, and discard those that never got enough rows."""
        closed = []
        for version, (rows, start, _) in self.open().items():
            if now - start < self._limits.period:
                continue
            if rows >= self._limits.min_rows:
                closed.append(self._close(version, "time"))
            elif now - start >= self._limits.period * DISCARDED_AFTER:
                self.row_counts["discarded"] += rows
                self._pop(version)
        return closed

    def conclude(self, window: ClosedWindow, measured: DriftMeasured) -> dict[str, int]:
        """Record the result of a closed window; return the consecutive windows of each field that drifted.

        Every partition that has counts of the version gets it, so that none moves on with older ones.
        """
        holders = window.partitions | self._consecutive.holders(window.version)
        self.changed |= holders
        return self._consecutive.extend(measured, holders)

    def _add(self, partition: int, version: ModelVersion, run: list[Row]) -> Iterator[ClosedWindow]:
        reference = self._references.get(*version)
        if reference is None:
            self.row_counts["no_profile"] += len(run)
            return
        budgets = self._budgets.setdefault(partition, {})
        rows, budgets[version] = sample(budgets.get(version), run, self._limits.rows_per_second)
        self.row_counts["sampled_out"] += len(run) - len(rows)
        features = decode_objects([row.features for row in rows])
        predictions = decode_objects([row.prediction for row in rows])
        usable = [i for i, both in enumerate(zip(features, predictions, strict=True)) if None not in both]
        self.row_counts["unreadable"] += len(rows) - len(usable)
        self.row_counts["counted"] += len(usable)
        while usable:
            taken, closed_by = self._until_full(version, [rows[i].accepted_at for i in usable])
            now, usable = usable[:taken], usable[taken:]
            if now:
                counts = count_into(reference.profile, [features[i] for i in now], [predictions[i] for i in now])
                self._count(partition, version, reference.digest, [rows[i] for i in now], counts)
            if closed_by is not None:
                yield self._close(version, closed_by)

    def _until_full(
        self, version: ModelVersion, times: Sequence[datetime]
    ) -> tuple[int, Literal["count", "time"] | None]:
        """How many of the next rows belong to the open window, and what closes it after them, if anything."""
        rows, start, _ = self.open().get(version, (0, times[0], times[0]))
        room = max(0, self._limits.rows - rows)
        # Not the row behind a full window: whether it is here already must not decide what closes the window.
        for index, time in enumerate(times[:room]):
            if time - start >= self._limits.period and rows + index >= self._limits.min_rows:
                return index, "time"
        return (room, "count") if room <= len(times) else (len(times), None)

    def _count(self, partition: int, version: ModelVersion, digest: str, rows: list[Row], counts: Profile) -> None:
        times = [row.accepted_at for row in rows]
        redacted = {name for row in rows for name in row.redacted}
        parts = self._parts.setdefault(partition, {})
        part = parts.get(version)
        if part is None:
            parts[version] = Part(digest, rows[0].offset, len(rows), min(times), max(times), counts, redacted)
            return
        part.rows += len(rows)
        part.start, part.end = min(part.start, *times), max(part.end, *times)
        part.counts = merge(part.counts, counts)
        part.redacted |= redacted

    def _close(self, version: ModelVersion, closed_by: Literal["count", "time"]) -> ClosedWindow:
        reference = self._references.get(*version)
        assert reference is not None
        parts = self._pop(version)
        counts, *others = [part.counts for part in parts.values()]
        for other in others:
            counts = merge(counts, other)
        redacted = set().union(*(part.redacted for part in parts.values()))
        start = min(part.start for part in parts.values())
        first = sorted((partition, part.first_offset) for partition, part in parts.items())
        identity: Any = (*version, start, first)
        return ClosedWindow(
            version=version,
            reference=without_features(reference.profile, redacted),
            counts=without_features(counts, redacted),
            window_id=hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:24],
            start=start,
            end=max(part.end for part in parts.values()),
            rows=sum(part.rows for part in parts.values()),
            closed_by=closed_by,
            partitions=frozenset(parts),
        )

    def _pop(self, version: ModelVersion) -> dict[int, Part]:
        """Remove and return the parts of a version's window."""
        taken = {number: parts.pop(version) for number, parts in self._parts.items() if version in parts}
        self.changed.update(taken)
        return taken
