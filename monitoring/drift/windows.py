"""Open windows: counts of the rows of each model version, kept by partition so that they can change their owner.

Nothing here does input or output. A window is what all partitions of this process have given to it. Its size is the
sum of its parts, and so is its content: counts add up.
"""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, Literal, NamedTuple, Protocol

import msgspec
from msgspec import Struct

from machine_learning_engineering.drift.binning import count_into, merge
from machine_learning_engineering.drift.profile import Profile
from machine_learning_engineering.drift.serialization import SerializedWindow, deserialize, serialize
from machine_learning_engineering.events.schemas import DriftMeasured
from machine_learning_engineering.registry.profiles import Reference
from monitoring.drift.batch import Batch, Row, Version, objects
from monitoring.drift.consecutive import Streak, Streaks
from monitoring.drift.redaction import without
from monitoring.drift.sampling import Budget, within

DISCARDED_AFTER = 24
"""A window that has not enough rows after so many periods is given up."""


class Limits(NamedTuple):
    """When a window is full: with `records` rows, or `period` after its first row if it has `least` by then.

    `per_second` is how many rows a second of a version and a partition are looked at, in the long run.
    """

    records: int
    period: timedelta
    least: int
    per_second: float


class Part(Struct):
    """What one partition has given to the open window of a version, `first_offset` first.

    `redacted` are features that some of the rows do not have as they were sent: a token or a gap in the place of a
    value would look like drift, so they are not compared.
    """

    digest: str
    first_offset: int
    rows: int
    start: datetime
    end: datetime
    counts: Profile
    redacted: set[str]


class KeptPart(Struct, frozen=True):
    """A part as it is published: the counts without the bins of the reference, whose digest it has."""

    model: str
    version: str
    digest: str
    first_offset: int
    rows: int
    start: datetime
    end: datetime
    counts: SerializedWindow
    redacted: list[str]


class State(Struct, frozen=True):
    """All that is known of a partition's records before `next_offset` and not measured yet.

    `streaks` are those of the versions that had rows in the partition.
    """

    next_offset: int
    parts: list[KeptPart]
    budgets: list[tuple[str, str, Budget]]
    streaks: list[tuple[str, str, Streak]] = []


class Open(NamedTuple):
    """How many rows an open window has, and when the first and the last of them were accepted."""

    rows: int
    start: datetime
    end: datetime


class Closed(NamedTuple):
    """A window that is ready to be measured. Its id is that of its version and of the first row of each part."""

    version: Version
    reference: Profile
    counts: Profile
    window_id: str
    start: datetime
    end: datetime
    rows: int
    closed_by: Literal["count", "time"]
    partitions: frozenset[int]


class HasReferences(Protocol):
    """`machine_learning_engineering.registry.profiles.ProfileCache`, or a stand-in."""

    def get(self, model: str, version: str) -> Reference | None:
        """The reference of a version; None if there is none."""
        ...


class Windows:
    """The open windows of the partitions that this process owns.

    `changed` are partitions whose state is another than the one last taken; `tally` counts rows by what became of them.
    """

    def __init__(self, references: HasReferences, limits: Limits) -> None:
        self._references = references
        self._limits = limits
        self._parts: dict[int, dict[Version, Part]] = {}
        self._budgets: dict[int, dict[Version, Budget]] = {}
        self._next_offsets: dict[int, int] = {}
        self._streaks = Streaks()
        self.changed: set[int] = set()
        self.tally: Counter[str] = Counter()

    # State

    def state(self, partition: int) -> State:
        """What whoever owns the partition next has to know."""
        parts = [
            KeptPart(
                *version,
                digest=part.digest,
                first_offset=part.first_offset,
                rows=part.rows,
                start=part.start,
                end=part.end,
                counts=serialize(part.counts),
                redacted=sorted(part.redacted),
            )
            for version, part in self._parts.get(partition, {}).items()
        ]
        budgets = [(*version, budget) for version, budget in self._budgets.get(partition, {}).items()]
        return State(self._next_offsets[partition], parts, budgets, self._streaks.of_partition(partition))

    def restore(self, partition: int, state: State) -> None:
        """Go on from a state. Parts that were counted in bins which are no more are discarded."""
        self._next_offsets[partition] = state.next_offset
        self._budgets[partition] = {Version(model, version): budget for model, version, budget in state.budgets}
        # Of versions that are gone from the registry there will be no further window.
        self._streaks.restore(partition, [one for one in state.streaks if self._references.get(one[0], one[1])])
        for kept in state.parts:
            reference = self._references.get(kept.model, kept.version)
            try:
                if reference is None or reference.digest != kept.digest:
                    raise ValueError("the reference is another one")
                counts = deserialize(reference.profile, kept.counts)
            except ValueError:
                self.tally["discarded"] += kept.rows
                self.changed.add(partition)
                continue
            part = Part(kept.digest, kept.first_offset, kept.rows, kept.start, kept.end, counts, set(kept.redacted))
            self._parts.setdefault(partition, {})[Version(kept.model, kept.version)] = part

    def streaks(self) -> dict[Version, Streak]:
        """In how many windows in a row, up to the last one, the fields of each version have drifted."""
        return self._streaks.newest()

    def forget(self) -> None:
        """Drop everything: the partitions are no longer ours."""
        self._parts.clear()
        self._budgets.clear()
        self._next_offsets.clear()
        self._streaks.forget()
        self.changed.clear()

    @property
    def next_offsets(self) -> dict[int, int]:
        """The offset behind what was read, by partition."""
        return self._next_offsets

    def open(self) -> dict[Version, Open]:
        """The open windows."""
        found: dict[Version, Open] = {}
        for parts in self._parts.values():
            for version, part in parts.items():
                rows, start, end = found.get(version, (0, part.start, part.end))
                found[version] = Open(rows + part.rows, min(start, part.start), max(end, part.end))
        return found

    # Rows

    def add(self, batch: Batch) -> list[Closed]:
        """Count the rows of a batch; the windows that are full with it."""
        self.tally.update(batch.left_out)
        self._next_offsets.update(batch.next_offsets)
        self.changed.update(batch.next_offsets)
        closed: list[Closed] = []
        for (partition, version), rows in batch.runs.items():
            closed.extend(self._add(partition, version, rows))
        return closed

    def overdue(self, now: datetime) -> list[Closed]:
        """The windows whose time is over."""
        closed = []
        for version, (rows, start, _) in self.open().items():
            if now - start < self._limits.period:
                continue
            if rows >= self._limits.least:
                closed.append(self._close(version, "time"))
            elif now - start >= self._limits.period * DISCARDED_AFTER:
                self.tally["discarded"] += rows
                self._take(version)
        return closed

    def conclude(self, window: Closed, measured: DriftMeasured) -> dict[str, int]:
        """Take note of what a closed window gave; windows in a row by field that drifted.

        Every partition that knows of the version is told, so that none brings an older streak to its next owner.
        """
        holders = window.partitions | self._streaks.holders(window.version)
        self.changed |= holders
        return self._streaks.extend(measured, holders)

    def _add(self, partition: int, version: Version, run: list[Row]) -> Iterator[Closed]:
        reference = self._references.get(*version)
        if reference is None:
            self.tally["no_profile"] += len(run)
            return
        budgets = self._budgets.setdefault(partition, {})
        rows, budgets[version] = within(budgets.get(version), run, self._limits.per_second)
        self.tally["sampled_out"] += len(run) - len(rows)
        features = objects([row.features for row in rows])
        predictions = objects([row.prediction for row in rows])
        usable = [i for i, both in enumerate(zip(features, predictions, strict=True)) if None not in both]
        self.tally["unreadable"] += len(rows) - len(usable)
        self.tally["counted"] += len(usable)
        while usable:
            taken, closed_by = self._until_full(version, [rows[i].accepted_at for i in usable])
            now, usable = usable[:taken], usable[taken:]
            if now:
                counts = count_into(reference.profile, [features[i] for i in now], [predictions[i] for i in now])
                self._count(partition, version, reference.digest, [rows[i] for i in now], counts)
            if closed_by is not None:
                yield self._close(version, closed_by)

    def _until_full(self, version: Version, times: Sequence[datetime]) -> tuple[int, Literal["count", "time"] | None]:
        """How many of the next rows still belong to the open window, and what closes it after them, if anything."""
        rows, start, _ = self.open().get(version, (0, times[0], times[0]))
        room = max(0, self._limits.records - rows)
        # Not the row behind a full window: whether it has come already must not decide what closes it.
        for index, time in enumerate(times[:room]):
            if time - start >= self._limits.period and rows + index >= self._limits.least:
                return index, "time"
        return (room, "count") if room <= len(times) else (len(times), None)

    def _count(self, partition: int, version: Version, digest: str, rows: list[Row], counts: Profile) -> None:
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

    def _close(self, version: Version, closed_by: Literal["count", "time"]) -> Closed:
        reference = self._references.get(*version)
        assert reference is not None
        parts = self._take(version)
        counts, *others = [part.counts for part in parts.values()]
        for other in others:
            counts = merge(counts, other)
        redacted = set().union(*(part.redacted for part in parts.values()))
        start = min(part.start for part in parts.values())
        first = sorted((partition, part.first_offset) for partition, part in parts.items())
        identity: Any = (*version, start, first)
        return Closed(
            version=version,
            reference=without(reference.profile, redacted),
            counts=without(counts, redacted),
            window_id=hashlib.sha256(msgspec.json.encode(identity)).hexdigest()[:24],
            start=start,
            end=max(part.end for part in parts.values()),
            rows=sum(part.rows for part in parts.values()),
            closed_by=closed_by,
            partitions=frozenset(parts),
        )

    def _take(self, version: Version) -> dict[int, Part]:
        """The parts of a version's window, which is empty from now on."""
        taken = {number: parts.pop(version) for number, parts in self._parts.items() if version in parts}
        self.changed.update(taken)
        return taken
