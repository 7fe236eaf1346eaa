"""In how many consecutive windows a field has drifted; kept by partition, so that it moves with the partition."""

from collections.abc import Iterable

from msgspec import Struct

from machine_learning_engineering.events.schemas import DriftMeasured, Timestamp
from monitoring.model_version import ModelVersion


class ConsecutiveDrift(Struct, frozen=True):
    """The fields that drifted in the last window of a version, with the number of consecutive windows, that one
    included."""

    window_end: Timestamp
    windows: dict[str, int]


class ConsecutiveWindows:
    """The counts of the partitions that this process owns.

    A version's counts are those of its newest window. Partitions that come from several processes bring one each.
    """

    def __init__(self) -> None:
        self._by_partition: dict[int, dict[ModelVersion, ConsecutiveDrift]] = {}

    def extend(self, measured: DriftMeasured, partitions: Iterable[int]) -> dict[str, int]:
        """Add a window for these partitions; return the consecutive windows of each field that drifted."""
        version = ModelVersion(measured.model, measured.model_version)
        before = self.newest().get(version)
        so_far = {} if before is None else before.windows
        windows = {one.field: so_far.get(one.field, 0) + 1 for one in measured.fields if one.drifted}
        for partition in partitions:
            self._by_partition.setdefault(partition, {})[version] = ConsecutiveDrift(measured.window_end, windows)
        return windows

    def holders(self, version: ModelVersion) -> set[int]:
        """The partitions that have counts of a version."""
        return {partition for partition, known in self._by_partition.items() if version in known}

    def newest(self) -> dict[ModelVersion, ConsecutiveDrift]:
        """The counts of each version."""
        newest: dict[ModelVersion, ConsecutiveDrift] = {}
        for known in self._by_partition.values():
            for version, drift in known.items():
                other = newest.get(version)
                if other is None or drift.window_end > other.window_end:
                    newest[version] = drift
        return newest

    def of_partition(self, partition: int) -> list[tuple[str, str, ConsecutiveDrift]]:
        """The part of the state that the partition's next owner needs."""
        return [(*version, drift) for version, drift in self._by_partition.get(partition, {}).items()]

    def restore(self, partition: int, known: Iterable[tuple[str, str, ConsecutiveDrift]]) -> None:
        """Continue from the state of the partition's previous owner."""
        self._by_partition[partition] = {ModelVersion(model, version): drift for model, version, drift in known}

    def clear(self) -> None:
        """Forget all partitions: they were revoked."""
        self._by_partition.clear()
