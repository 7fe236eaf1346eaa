"""What `inflight watcher` shows of the windows and of itself."""

from collections.abc import Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge
from prometheus_client.metrics import MetricWrapperBase

from machine_learning_engineering.stream.events import DriftMeasured
from monitoring.drift.batch import Version
from monitoring.metrics import register_process

MOST_SERIES = 2_000
"""Of a version, six a field. Versions without a reference profile have none, so nobody can send names."""


class WatcherMetrics:
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
            "Log records by what became of them: counted, left-out (a sample was enough), failed, unreadable, "
            "no-profile, or discarded later on.",
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
            "inflight_watcher_lag_records",
            "Log records of this process's partitions that it has not read yet.",
            unit="records",
            registry=registry,
        )
        self.partitions = Gauge(
            "inflight_watcher_assigned_partitions",
            "Partitions of the log that this process owns.",
            unit="partitions",
            registry=registry,
        )
        register_process(registry)


class Shown:
    """Keeps the series of the versions that are under way, and takes away those of the others.

    Args:
        seconds: so long after its last window a version is still shown.
    """

    def __init__(self, metrics: WatcherMetrics, seconds: float) -> None:
        self._metrics = metrics
        self._seconds = seconds
        self._series: dict[Version, set[tuple[MetricWrapperBase, tuple[str, ...]]]] = {}
        self._at: dict[Version, float] = {}

    def measured(self, window: DriftMeasured, in_a_row: Mapping[str, int], now: float) -> None:
        """Show a window that was published, and in how many in a row each of its fields has drifted."""
        version = Version(window.model, window.model_version)
        result = "drifted" if any(field.drifted for field in window.fields) else "clean"
        self._metrics.windows.labels(*version, result).inc()
        self._at[version] = now
        for one in window.fields:
            self._set(version, self._metrics.psi, one.psi, one.field)
            self._set(version, self._metrics.p_value, one.p_adjusted, one.field)
            self._set(version, self._metrics.in_a_row, in_a_row.get(one.field, 0), one.field)
            for kind in ("missing", "unseen", "out_of_range"):
                self._set(version, self._metrics.rate, getattr(one, f"{kind}_rate"), one.field, kind)

    def restored(self, version: Version, in_a_row: Mapping[str, int], now: float) -> None:
        """Show what was known of a version before its partitions came here."""
        self._at[version] = now
        for field, windows in in_a_row.items():
            self._set(version, self._metrics.in_a_row, windows, field)

    def open(self, windows: dict[Version, tuple[int, datetime]], now: float) -> None:
        """Show the windows that are open, and forget what is long over."""
        for version in [version for version, at in self._at.items() if now - at > self._seconds]:
            self._forget(version)
        for version in self._series.keys() | windows.keys():
            rows, start = windows.get(version, (0, None))
            self._set(version, self._metrics.window_rows, rows)
            self._set(version, self._metrics.window_age, 0.0 if start is None else max(0.0, now - start.timestamp()))
            self._at.setdefault(version, now)

    def _set(self, version: Version, metric: Gauge, value: float, *labels: str) -> None:
        series = self._series.setdefault(version, set())
        one = (metric, (*version, *labels))
        if one in series or len(series) < MOST_SERIES:
            series.add(one)
            metric.labels(*one[1]).set(value)

    def _forget(self, version: Version) -> None:
        for metric, labels in self._series.pop(version, set()):
            metric.remove(*labels)
        self._at.pop(version, None)
