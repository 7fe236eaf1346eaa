"""In how many windows in a row a field has drifted: kept by partition, as windows are, so that it changes its owner."""

from collections.abc import Iterable
from datetime import datetime

from msgspec import Struct

from machine_learning_engineering.events.schemas import DriftMeasured
from monitoring.drift.batch import Version


class Streak(Struct, frozen=True):
    """Of the fields that drifted in the last window of a version: in how many windows in a row, that one included."""

    window_end: datetime
    windows: dict[str, int]


class Streaks:
    """The streaks of the partitions that this process owns.

    A version's streak is that of its newest window. Partitions that come from several processes bring one each.
    """

    def __init__(self) -> None:
        self._kept: dict[int, dict[Version, Streak]] = {}

    def extend(self, measured: DriftMeasured, partitions: Iterable[int]) -> dict[str, int]:
        """Go on with a window, of which these partitions have to know; windows in a row by field that drifted."""
        version = Version(measured.model, measured.model_version)
        before = self.newest().get(version)
        so_far = {} if before is None else before.windows
        windows = {one.field: so_far.get(one.field, 0) + 1 for one in measured.fields if one.drifted}
        for partition in partitions:
            self._kept.setdefault(partition, {})[version] = Streak(measured.window_end, windows)
        return windows

    def holders(self, version: Version) -> set[int]:
        """The partitions that have a streak of a version."""
        return {partition for partition, kept in self._kept.items() if version in kept}

    def newest(self) -> dict[Version, Streak]:
        """The streak of each version."""
        found: dict[Version, Streak] = {}
        for kept in self._kept.values():
            for version, streak in kept.items():
                other = found.get(version)
                if other is None or streak.window_end > other.window_end:
                    found[version] = streak
        return found

    def of_partition(self, partition: int) -> list[tuple[str, str, Streak]]:
        """What whoever owns the partition next has to know."""
        return [(*version, streak) for version, streak in self._kept.get(partition, {}).items()]

    def restore(self, partition: int, kept: Iterable[tuple[str, str, Streak]]) -> None:
        """Go on from there."""
        self._kept[partition] = {Version(model, version): streak for model, version, streak in kept}

    def forget(self) -> None:
        """Drop everything: the partitions are no longer ours."""
        self._kept.clear()
