"""The metrics of `inflight drift-monitor`."""

from collections.abc import Mapping
from datetime import datetime

from prometheus_client import CollectorRegistry, Counter, Gauge

from machine_learning_engineering.events.schemas import DriftMeasured
from machine_learning_engineering.observability.logging import log_event
from monitoring.drift.consecutive import ConsecutiveDrift
from monitoring.drift.windows import OpenWindow
from monitoring.model_version import ModelVersion
from monitoring.runtime.consumer import ConsumerMetrics
from monitoring.runtime.groups import DRIFT_MONITOR, READS
from monitoring.runtime.metrics import Declare, register_process

MAX_FIELDS = 333
"""At most this many fields of a version are exported, with eight series each, drifted ones first. Field names come from
the reference profile, so no producer can flood Prometheus with names."""
_FIELD = 2
"""The index of the field among a series' labels."""
ROW_RESULTS = ("counted", "sampled_out", "failed", "unreadable", "no_profile", "discarded")


class DriftMonitorMetrics:
    """Declares the metrics. A `field` is, for example, ``features.carat`` or ``predictions.price``."""

    def __init__(self, registry: CollectorRegistry) -> None:
        metric = Declare(registry)
        version = ("model", "model_version")
        field = (*version, "field")
        text = "Population stability index of a field in the last window, from its most significant test."
        self.psi = metric(Gauge, "inflight_drift_psi", text, *field)
        text = "P-value of that test, corrected for the number of tests in the window."
        self.p_value = metric(Gauge, "inflight_drift_p_value", text, *field)
        text = "Consecutive windows, up to the last one, in which a field drifted; 0: no drift in the last window."
        self.consecutive_windows = metric(Gauge, "inflight_drift_drifted_windows", text, *field)
        text = "Share of the last window's rows whose value is missing, unseen or out_of_range."
        self.rate = metric(Gauge, "inflight_drift_field_ratio", text, *field, "kind")
        text = "The same share of the reference's rows, for missing and unseen values: a share without drift."
        self.reference_rate = metric(Gauge, "inflight_drift_reference_ratio", text, *field, "kind")
        text = "Compared windows by result: clean or drifted."
        self.windows = metric(Counter, "inflight_drift_windows", text, *version, "result")
        self.window_rows = metric(Gauge, "inflight_drift_window_rows", "Rows in the open window.", *version)
        text = "Time since the first row of the open window was accepted."
        self.window_age = metric(Gauge, "inflight_drift_window_age_seconds", text, *version)
        text = (
            "Log records by result: counted, sampled_out (a sample was enough), failed, unreadable, no_profile, "
            "or discarded: counted, but the window was abandoned."
        )
        self.rows = metric(Counter, "inflight_drift_rows", text, "result")
        for result in ROW_RESULTS:
            self.rows.labels(result)
        text = "Model versions whose requests cannot be compared because they have no reference profile."
        self.unprofiled = metric(Gauge, "inflight_drift_unprofiled_versions", text)
        text = "Log partitions assigned to this process."
        self.partitions = metric(Gauge, "inflight_drift_monitor_assigned_partitions", text)
        self.consumer = ConsumerMetrics(registry, READS[DRIFT_MONITOR])
        register_process(registry)


class DriftSeries:
    """Exports the series of active versions and removes those of the others.

    Args:
        seconds: how long a version is exported after its last window and after the last row of its open one.
    """

    def __init__(self, metrics: DriftMonitorMetrics, seconds: float) -> None:
        self._metrics = metrics
        self._seconds = seconds
        self._series: dict[ModelVersion, set[tuple[Gauge, tuple[str, ...]]]] = {}
        self._last_seen: dict[ModelVersion, float] = {}
        self._reported: set[ModelVersion] = set()

    def show_window(self, window: DriftMeasured, consecutive_windows: Mapping[str, int], now: float) -> None:
        """Export a published window, and in how many consecutive windows each of its fields has drifted.

        Fields that this window did not compare are removed: whether they still drift is unknown.
        """
        version = ModelVersion(window.model, window.model_version)
        result = "drifted" if any(field.drifted for field in window.fields) else "clean"
        # Both, before the first window: `increase` does not see the first value of a series.
        windows = {each: self._metrics.windows.labels(*version, each) for each in ("clean", "drifted")}
        windows[result].inc()
        self._last_seen[version] = now
        selected = self._select_fields(version, {one.field: one.drifted for one in window.fields})
        for one in window.fields:
            if one.field not in selected:
                continue
            self._set(version, self._metrics.psi, one.psi, one.field)
            self._set(version, self._metrics.p_value, one.p_adjusted, one.field)
            self._set(version, self._metrics.consecutive_windows, consecutive_windows.get(one.field, 0), one.field)
            for kind in ("missing", "unseen", "out_of_range"):
                self._set(version, self._metrics.rate, getattr(one, f"{kind}_rate"), one.field, kind)
            references = {"missing": one.reference_missing_rate, "unseen": one.reference_unseen_rate}
            for kind, expected in references.items():
                if isinstance(expected, float):
                    self._set(version, self._metrics.reference_rate, expected, one.field, kind)

    def restore(
        self, known: Mapping[ModelVersion, ConsecutiveDrift], windows: Mapping[ModelVersion, OpenWindow], now: float
    ) -> None:
        """Export the state of the partitions' previous owners, without expired versions."""
        for version, drift in known.items():
            self._keep_alive(version, drift.window_end, now)
            if version in windows:
                self._keep_alive(version, windows[version].end, now)
            if self._is_expired(version, now):
                continue
            fields = {field: field in drift.windows for field in self._fields(version) | drift.windows.keys()}
            for field in self._select_fields(version, fields):
                self._set(version, self._metrics.consecutive_windows, drift.windows.get(field, 0), field)

    def show_open(self, windows: Mapping[ModelVersion, OpenWindow], now: float) -> None:
        """Export the open windows and remove expired versions; one with an open window loses only its fields."""
        for version, window in windows.items():
            self._keep_alive(version, window.end, now)
        for version in [version for version in self._last_seen if self._is_expired(version, now)]:
            if version in windows:
                self._select_fields(version, {})
            else:
                self._remove(version)
        for version in self._series.keys() | windows.keys():
            rows, age = 0, 0.0
            if version in windows:
                rows, age = windows[version].rows, max(0.0, now - windows[version].start.timestamp())
            self._set(version, self._metrics.window_rows, rows)
            self._set(version, self._metrics.window_age, age)
            self._last_seen.setdefault(version, now)

    def _keep_alive(self, version: ModelVersion, at: datetime, now: float) -> None:
        # A clock far ahead of ours would keep a version for ever.
        if at.timestamp() - now <= self._seconds:
            self._last_seen[version] = max(self._last_seen.get(version, 0.0), at.timestamp())

    def _is_expired(self, version: ModelVersion, now: float) -> bool:
        return now - self._last_seen.get(version, 0.0) > self._seconds

    def _fields(self, version: ModelVersion) -> set[str]:
        return {labels[_FIELD] for _, labels in self._series.get(version, set()) if len(labels) > _FIELD}

    def _select_fields(self, version: ModelVersion, fields: Mapping[str, bool]) -> set[str]:
        """Choose the fields to export and remove the series of all others.

        Args:
            fields: whether each field has drifted. Drifted fields come first, then those exported before.
        """
        before = self._fields(version)
        selected = set(sorted(fields, key=lambda field: (not fields[field], field not in before))[:MAX_FIELDS])
        series = self._series.setdefault(version, set())
        for one in [one for one in series if len(one[1]) > _FIELD and one[1][_FIELD] not in selected]:
            series.discard(one)
            one[0].remove(*one[1])
        if len(fields) > MAX_FIELDS and version not in self._reported:
            self._reported.add(version)
            cause = f"metrics hold {MAX_FIELDS} fields of a version, drifted ones first; inflight drift show has all"
            log_event("drift-monitor", "fields_not_shown", cause=cause, model=version.model, version=version.version)
        return selected

    def _set(self, version: ModelVersion, metric: Gauge, value: float, *labels: str) -> None:
        one = (metric, (*version, *labels))
        self._series.setdefault(version, set()).add(one)
        metric.labels(*one[1]).set(value)

    def _remove(self, version: ModelVersion) -> None:
        for metric, labels in self._series.pop(version, set()):
            metric.remove(*labels)
        self._last_seen.pop(version, None)
