"""What `inflight watcher` shows of the windows and of itself."""

from collections.abc import Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge

from machine_learning_engineering.events.schemas import DriftMeasured
from machine_learning_engineering.observability.logging import log_event
from monitoring.drift.batch import Version
from monitoring.drift.consecutive import Streak
from monitoring.drift.windows import Open
from monitoring.runtime.metrics import register_process

MOST_FIELDS = 333
"""Of a version that are shown, with six series each: drifted ones first. Versions without a reference profile have
none, so nobody can send names."""
_FIELD = 2
"""Where the field is among the labels of a series that has one."""


class DriftMonitorMetrics:
    """What `inflight watcher` measures. `field` is such as ``features.carat`` or ``predictions.price``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        version, field = ["model", "model_version"], ["model", "model_version", "field"]
        self.psi = Gauge(
            "inflight_drift_psi",
            "Population stability index of a field in the last window, by its most suspicious test.",
            field,
            unit="psi",
            registry=registry,
        )
        self.p_value = Gauge(
            "inflight_drift_p_value",
            "P-value of that test, corrected for the number of tests of the window.",
            field,
            unit="value",
            registry=registry,
        )
        self.in_a_row = Gauge(
            "inflight_drift_drifted_windows",
            "So many windows in a row, up to the last one, in which a field drifted; 0 if it did not in the last one.",
            field,
            unit="windows",
            registry=registry,
        )
        self.rate = Gauge(
            "inflight_drift_field_ratio",
            "Share of the last window's rows whose value is missing, unseen or out_of_range.",
            [*field, "kind"],
            unit="ratio",
            registry=registry,
        )
        self.windows = Counter(
            "inflight_drift_windows",
            "Windows that were compared with their reference, by result: clean or drifted.",
            [*version, "result"],
            unit="windows",
            registry=registry,
        )
        self.window_rows = Gauge(
            "inflight_drift_window_rows",
            "Rows in the window that is open.",
            version,
            unit="rows",
            registry=registry,
        )
        self.window_age = Gauge(
            "inflight_drift_window_age_seconds",
            "Time since the first row of the window that is open was accepted.",
            version,
            unit="seconds",
            registry=registry,
        )
        self.rows = Counter(
            "inflight_drift_rows",
            "Log records by what became of them: counted, sampled_out (a sample was enough), failed, unreadable, "
            "no_profile, or discarded later on.",
            ["result"],
            unit="rows",
            registry=registry,
        )
        self.unprofiled = Gauge(
            "inflight_drift_unprofiled_versions",
            "Model versions whose requests can't be compared: the registry has no reference profile of them.",
            unit="versions",
            registry=registry,
        )
        self.lag = Gauge(
            "inflight_drift_monitor_lag_records",
            "Log records of this process's partitions that it has not read yet.",
            unit="records",
            registry=registry,
        )
        self.partitions = Gauge(
            "inflight_drift_monitor_assigned_partitions",
            "Partitions of the log that this process owns.",
            unit="partitions",
            registry=registry,
        )
        register_process(registry)


class Shown:
    """Keeps the series of the versions that are under way, and takes away those of the others.

    Args:
        seconds: so long after its last window, and the last row of its open one, a version is still shown.
    """

    def __init__(self, metrics: DriftMonitorMetrics, seconds: float) -> None:
        self._metrics = metrics
        self._seconds = seconds
        self._series: dict[Version, set[tuple[Gauge, tuple[str, ...]]]] = {}
        self._at: dict[Version, float] = {}
        self._told: set[Version] = set()

    def measured(self, window: DriftMeasured, in_a_row: Mapping[str, int], now: float) -> None:
        """Show a window that was published, and in how many in a row each of its fields has drifted.

        What is no longer compared is no longer shown: nobody could say whether it still drifts.
        """
        version = Version(window.model, window.model_version)
        result = "drifted" if any(field.drifted for field in window.fields) else "clean"
        self._metrics.windows.labels(*version, result).inc()
        self._at[version] = now
        admitted = self._admit(version, {one.field: one.drifted for one in window.fields})
        for one in window.fields:
            if one.field not in admitted:
                continue
            self._set(version, self._metrics.psi, one.psi, one.field)
            self._set(version, self._metrics.p_value, one.p_adjusted, one.field)
            self._set(version, self._metrics.in_a_row, in_a_row.get(one.field, 0), one.field)
            for kind in ("missing", "unseen", "out_of_range"):
                self._set(version, self._metrics.rate, getattr(one, f"{kind}_rate"), one.field, kind)

    def restored(self, streaks: Mapping[Version, Streak], windows: Mapping[Version, Open], now: float) -> None:
        """Show what was known of the versions before their partitions came here; nothing of those that are over."""
        for version, streak in streaks.items():
            self._alive(version, streak.window_end, now)
            if version in windows:
                self._alive(version, windows[version].end, now)
            if self._is_over(version, now):
                continue
            fields = {field: field in streak.windows for field in self._fields(version) | streak.windows.keys()}
            for field in self._admit(version, fields):
                self._set(version, self._metrics.in_a_row, streak.windows.get(field, 0), field)

    def open(self, windows: Mapping[Version, Open], now: float) -> None:
        """Show the windows that are open, and forget what is long over; where a window is open, only the fields."""
        for version, window in windows.items():
            self._alive(version, window.end, now)
        for version in [version for version in self._at if self._is_over(version, now)]:
            if version in windows:
                self._admit(version, {})
            else:
                self._forget(version)
        for version in self._series.keys() | windows.keys():
            rows, age = 0, 0.0
            if version in windows:
                rows, age = windows[version].rows, max(0.0, now - windows[version].start.timestamp())
            self._set(version, self._metrics.window_rows, rows)
            self._set(version, self._metrics.window_age, age)
            self._at.setdefault(version, now)

    def _alive(self, version: Version, at: datetime, now: float) -> None:
        # A clock that is far ahead would keep a version for ever.
        if at.timestamp() - now <= self._seconds:
            self._at[version] = max(self._at.get(version, 0.0), at.timestamp())

    def _is_over(self, version: Version, now: float) -> bool:
        return now - self._at.get(version, 0.0) > self._seconds

    def _fields(self, version: Version) -> set[str]:
        return {labels[_FIELD] for _, labels in self._series.get(version, set()) if len(labels) > _FIELD}

    def _admit(self, version: Version, fields: Mapping[str, bool]) -> set[str]:
        """The fields that are shown from now on, of these and whether they have drifted: those that have come first,
        then those that were shown before. The series of all others are taken away."""
        before = self._fields(version)
        admitted = set(sorted(fields, key=lambda field: (not fields[field], field not in before))[:MOST_FIELDS])
        series = self._series.setdefault(version, set())
        for one in [one for one in series if len(one[1]) > _FIELD and one[1][_FIELD] not in admitted]:
            series.discard(one)
            one[0].remove(*one[1])
        if len(fields) > MOST_FIELDS and version not in self._told:
            self._told.add(version)
            cause = f"metrics have {MOST_FIELDS} fields of a version, drifted ones first; inflight drift show has all"
            log_event("watcher", "fields_not_shown", cause=cause, model=version.model, version=version.number)
        return admitted

    def _set(self, version: Version, metric: Gauge, value: float, *labels: str) -> None:
        one = (metric, (*version, *labels))
        self._series.setdefault(version, set()).add(one)
        metric.labels(*one[1]).set(value)

    def _forget(self, version: Version) -> None:
        for metric, labels in self._series.pop(version, set()):
            metric.remove(*labels)
        self._at.pop(version, None)
