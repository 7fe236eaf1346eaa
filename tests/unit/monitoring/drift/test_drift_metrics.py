"""What the watcher shows of its windows."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from prometheus_client import CollectorRegistry

from machine_learning_engineering.stream.events import DriftMeasured, FieldDrift
from monitoring.drift.batch import Version
from monitoring.drift.metrics import MOST_SERIES, Shown, WatcherMetrics
from tests.unit.monitoring.conftest import ACCEPTED

Value = Callable[..., float | None]
NOW = ACCEPTED.timestamp()


def window(version: str = "v1", **drifted: bool) -> DriftMeasured:
    """A window with these fields."""
    fields = [
        FieldDrift(f"features.{name}", "feature", "distribution", 0.5, 1e-4, 0.002, flag, 0.1, 0.2, 0.3, 0.0)
        for name, flag in drifted.items()
    ]
    return DriftMeasured(
        "diamonds", version, "w", ACCEPTED, ACCEPTED + timedelta(hours=1), "count", 1_000, 0.01, 0.1, fields
    )


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def shown(registry: CollectorRegistry) -> Shown:
    return Shown(WatcherMetrics(registry), seconds=7_200)


@pytest.fixture
def value(registry: CollectorRegistry) -> Value:
    """`value(metric, field=...)` of version v1, or of `model_version`."""

    def found(metric: str, **labels: str) -> float | None:
        return registry.get_sample_value(metric, {"model": "diamonds", "model_version": "v1", **labels})

    return found


def test_a_window_shows_each_of_its_fields(shown: Shown, value: Value) -> None:
    """Its size, how sure it is, and the shares; and the window is counted."""
    shown.measured(window(carat=True, cut=False), {"features.carat": 1}, NOW)
    assert value("inflight_drift_psi", field="features.carat") == 0.5
    assert value("inflight_drift_p_value", field="features.cut") == 0.002
    shares = {kind: value("inflight_drift_field_ratio", field="features.cut", kind=kind) for kind in KINDS}
    assert shares == {"missing": 0.1, "unseen": 0.2, "out_of_range": 0.3}
    assert value("inflight_drift_windows_total", result="drifted") == 1
    assert value("inflight_drift_windows_total", result="clean") is None


KINDS = ("missing", "unseen", "out_of_range")


def test_windows_in_a_row_are_shown_by_field(shown: Shown, value: Value) -> None:
    """Of a field that did not drift in the last window 0, whatever was before."""
    rows: dict[str, list[Any]] = {"carat": [], "cut": []}
    for in_a_row in ({"features.carat": 1}, {"features.carat": 2, "features.cut": 1}, {"features.cut": 2}):
        shown.measured(window(carat=True, cut=True), in_a_row, NOW)
        for field, counts in rows.items():
            counts.append(value("inflight_drift_drifted_windows", field=f"features.{field}"))
    assert rows == {"carat": [1, 2, 0], "cut": [0, 1, 2]}


def test_what_a_predecessor_knew_is_shown_before_the_next_window(shown: Shown, value: Value) -> None:
    """Else an alert would end with a restart, and nobody would have mended anything."""
    shown.restored(Version("diamonds", "v1"), {"features.carat": 3}, NOW)
    shown.open({}, NOW + 7_100)
    assert value("inflight_drift_drifted_windows", field="features.carat") == 3
    shown.open({}, NOW + 7_300)
    assert value("inflight_drift_drifted_windows", field="features.carat") is None


def test_a_version_that_is_over_is_no_longer_shown(shown: Shown, value: Value, registry: CollectorRegistry) -> None:
    """Else it would be drifted for ever. One with an open window stays."""
    shown.measured(window(carat=True), {"features.carat": 1}, NOW)
    shown.measured(window("v2", carat=True), {"features.carat": 1}, NOW + 3_600)
    opened = {Version("diamonds", "v2"): (70, ACCEPTED)}
    shown.open(opened, NOW + 7_300)
    assert value("inflight_drift_psi", field="features.carat") is None
    assert value("inflight_drift_psi", field="features.carat", model_version="v2") == 0.5
    assert value("inflight_drift_window_rows", model_version="v2") == 70
    assert value("inflight_drift_window_age_seconds", model_version="v2") == 7_300
    assert value("inflight_drift_window_rows") is None
    shown.measured(window(carat=True), {"features.carat": 1}, NOW + 7_400)
    assert value("inflight_drift_drifted_windows", field="features.carat") == 1
    shown.open({}, NOW + 7_500)
    assert value("inflight_drift_window_age_seconds", model_version="v2") == 0


def test_a_profile_of_any_size_has_a_bounded_number_of_series(shown: Shown, registry: CollectorRegistry) -> None:
    """However many fields a model has."""
    shown.measured(window(**{f"f{number}": False for number in range(MOST_SERIES)}), {}, NOW)
    series = [sample for family in registry.collect() for sample in family.samples if "model" in sample.labels]
    # And two of the counter of windows, its count and when it began.
    assert len(series) <= MOST_SERIES + 2
