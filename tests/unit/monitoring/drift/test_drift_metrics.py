"""What the drift monitor shows of its windows."""

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from msgspec import UNSET
from msgspec.structs import replace
from prometheus_client import CollectorRegistry

from machine_learning_engineering.events.schemas import DriftMeasured, FieldDrift
from monitoring.drift.consecutive import ConsecutiveDrift
from monitoring.drift.metrics import MAX_FIELDS, DriftMonitorMetrics, DriftSeries
from monitoring.drift.windows import OpenWindow
from monitoring.model_version import ModelVersion
from tests.unit.monitoring.conftest import ACCEPTED

Value = Callable[..., float | None]
NOW = ACCEPTED.timestamp()


def window(version: str = "v1", **drifted: bool) -> DriftMeasured:
    """A window with these fields."""
    fields = [
        FieldDrift(f"features.{name}", "feature", "distribution", 0.5, 1e-4, 0.002, flag, 0.1, 0.2, 0.3, 0.0, "", 0.1)
        for name, flag in drifted.items()
    ]
    return DriftMeasured(
        "diamonds", version, "w", ACCEPTED, ACCEPTED + timedelta(hours=1), "count", 1_000, 0.01, 0.1, fields
    )


@pytest.fixture
def registry() -> CollectorRegistry:
    return CollectorRegistry()


@pytest.fixture
def shown(registry: CollectorRegistry) -> DriftSeries:
    return DriftSeries(DriftMonitorMetrics(registry), seconds=7_200)


@pytest.fixture
def value(registry: CollectorRegistry) -> Value:
    """`value(metric, field=...)` of version v1, or of `model_version`."""

    def found(metric: str, **labels: str) -> float | None:
        return registry.get_sample_value(metric, {"model": "diamonds", "model_version": "v1", **labels})

    return found


def test_a_window_shows_each_of_its_fields(shown: DriftSeries, value: Value) -> None:
    """Its size, how sure it is, and the shares; and the window is counted."""
    shown.show_window(window(carat=True, cut=False), {"features.carat": 1}, NOW)
    assert value("inflight_drift_psi", field="features.carat") == 0.5
    assert value("inflight_drift_p_value", field="features.cut") == 0.002
    shares = {kind: value("inflight_drift_field_ratio", field="features.cut", kind=kind) for kind in KINDS}
    assert shares == {"missing": 0.1, "unseen": 0.2, "out_of_range": 0.3}
    assert value("inflight_drift_windows_total", result="drifted") == 1
    assert value("inflight_drift_windows_total", result="clean") == 0


def test_shares_without_drift_are_beside_them(shown: DriftSeries, value: Value) -> None:
    """A text of the reference may have no known word either; an event of an earlier release does not tell."""
    old, new = window(review=False), window(title=False)
    old = replace(old, fields=[replace(one, reference_unseen_rate=UNSET) for one in old.fields])
    new = replace(new, fields=[replace(one, reference_unseen_rate=0.4) for one in new.fields])
    for one in (old, replace(new, fields=[*old.fields, *new.fields])):
        shown.show_window(one, {}, NOW)

    def expected(field: str, kind: str) -> float | None:
        return value("inflight_drift_reference_ratio", field=field, kind=kind)

    assert expected("features.title", "unseen") == 0.4
    assert expected("features.title", "missing") == 0.0
    assert expected("features.review", "unseen") is None


KINDS = ("missing", "unseen", "out_of_range")


def test_windows_in_a_row_are_shown_by_field(shown: DriftSeries, value: Value) -> None:
    """Of a field that did not drift in the last window 0, whatever was before."""
    rows: dict[str, list[Any]] = {"carat": [], "cut": []}
    for consecutive_windows in ({"features.carat": 1}, {"features.carat": 2, "features.cut": 1}, {"features.cut": 2}):
        shown.show_window(window(carat=True, cut=True), consecutive_windows, NOW)
        for field, counts in rows.items():
            counts.append(value("inflight_drift_drifted_windows", field=f"features.{field}"))
    assert rows == {"carat": [1, 2, 0], "cut": [0, 1, 2]}


def ago(seconds: float) -> datetime:
    """A moment before now."""
    return ACCEPTED - timedelta(seconds=seconds)


def known(end: datetime, **windows: int) -> dict[ModelVersion, ConsecutiveDrift]:
    """What a predecessor knew of version v1, whose last window ended then."""
    return {
        ModelVersion("diamonds", "v1"): ConsecutiveDrift(
            end, {f"features.{name}": count for name, count in windows.items()}
        )
    }


def opened(rows: int, start: datetime, end: datetime, version: str = "v1") -> dict[ModelVersion, OpenWindow]:
    return {ModelVersion("diamonds", version): OpenWindow(rows, start, end)}


def test_what_a_predecessor_knew_is_shown_before_the_next_window(shown: DriftSeries, value: Value) -> None:
    """Else an alert would end with a restart, and nobody would have mended anything."""
    shown.restore(known(ago(0), carat=3), {}, NOW)
    shown.show_open({}, NOW + 7_100)
    assert value("inflight_drift_drifted_windows", field="features.carat") == 3
    shown.show_open({}, NOW + 7_300)
    assert value("inflight_drift_drifted_windows", field="features.carat") is None


@pytest.mark.parametrize("seconds", [90 * 86_400.0, 7_201.0, -1e9])
def test_what_a_predecessor_knew_of_a_version_that_is_over_is_not_shown(
    shown: DriftSeries, value: Value, seconds: float
) -> None:
    """A version that was replaced months ago would be an alert at each restart; so would one of a clock far ahead."""
    shown.restore(known(ago(seconds), carat=3), {}, NOW)
    assert value("inflight_drift_drifted_windows", field="features.carat") is None


def test_a_predecessors_streak_is_over_when_its_own_time_is(shown: DriftSeries, value: Value) -> None:
    """Not two periods after the restart."""
    shown.restore(known(ago(7_000), carat=3), {}, NOW)
    assert value("inflight_drift_drifted_windows", field="features.carat") == 3
    shown.show_open({}, NOW + 300)
    assert value("inflight_drift_drifted_windows", field="features.carat") is None


def test_a_predecessors_open_window_that_grows_keeps_its_version(shown: DriftSeries, value: Value) -> None:
    """With few rows an hour the last window may well be three periods ago."""
    shown.restore(known(ago(10_000), carat=3), opened(170, ago(9_000), ago(60)), NOW)
    assert value("inflight_drift_drifted_windows", field="features.carat") == 3


def test_a_streak_that_ended_elsewhere_ends_here(shown: DriftSeries, value: Value) -> None:
    """A partition comes from a drift monitor whose newest window of the version was clean."""
    shown.show_window(window(carat=True, cut=True), {"features.carat": 2, "features.cut": 2}, NOW)
    shown.restore(known(ago(0), cut=1), {}, NOW)
    assert value("inflight_drift_drifted_windows", field="features.carat") == 0
    assert value("inflight_drift_drifted_windows", field="features.cut") == 1


def test_a_version_that_is_over_is_no_longer_shown(
    shown: DriftSeries, value: Value, registry: CollectorRegistry
) -> None:
    """Else it would be drifted for ever. One with an open window stays, as long as that one grows."""
    shown.show_window(window(carat=True), {"features.carat": 1}, NOW)
    shown.show_window(window("v2", carat=True), {"features.carat": 1}, NOW)
    start, last = ACCEPTED, ago(-3_600)
    shown.show_open(opened(70, start, last, "v2"), NOW + 7_300)
    assert value("inflight_drift_psi", field="features.carat") is None
    assert value("inflight_drift_psi", field="features.carat", model_version="v2") == 0.5
    assert value("inflight_drift_window_rows", model_version="v2") == 70
    assert value("inflight_drift_window_age_seconds", model_version="v2") == 7_300
    assert value("inflight_drift_window_rows") is None
    shown.show_window(window(carat=True), {"features.carat": 1}, NOW + 7_400)
    assert value("inflight_drift_drifted_windows", field="features.carat") == 1
    shown.show_open({}, NOW + 7_500)
    assert value("inflight_drift_window_age_seconds", model_version="v2") == 0
    shown.show_open(opened(70, start, last, "v2"), NOW + 3_600 + 7_201)
    assert value("inflight_drift_psi", field="features.carat", model_version="v2") is None
    assert value("inflight_drift_window_rows", model_version="v2") == 70


def test_an_alert_does_not_end_between_two_windows_of_few_rows(shown: DriftSeries, value: Value) -> None:
    """At 90 rows an hour a window of 200 takes more than two periods."""
    for number in range(3):
        at = NOW + 8_000 * number
        shown.show_window(window(carat=True), {"features.carat": number + 1}, at)
        for seconds in range(100, 8_000, 100):
            shown.show_open(opened(seconds // 40, ago(-8_000 * number), ago(-8_000 * number - seconds)), at + seconds)
            assert value("inflight_drift_drifted_windows", field="features.carat") == number + 1


def test_a_field_that_is_no_longer_compared_is_no_longer_shown(
    shown: DriftSeries, value: Value, registry: CollectorRegistry
) -> None:
    """Say that it is redacted since: an alert of it would have no end."""
    shown.show_window(window(carat=True, cut=False), {"features.carat": 2}, NOW)
    shown.show_window(window("v2", carat=True), {"features.carat": 2}, NOW)
    shown.show_window(window(cut=False), {}, NOW + 1)
    fields = {
        (sample.labels["model_version"], sample.labels["field"])
        for family in registry.collect()
        for sample in family.samples
        if "field" in sample.labels
    }
    assert fields == {("v1", "features.cut"), ("v2", "features.carat")}
    shown.show_window(window(carat=False), {}, NOW + 2)
    assert value("inflight_drift_drifted_windows", field="features.carat") == 0


def test_a_profile_of_any_size_has_a_bounded_number_of_series(shown: DriftSeries, registry: CollectorRegistry) -> None:
    """However many fields a model has."""
    for first in (0, 1_000):
        names = [f"f{number}" for number in range(first, first + 1_000)]
        shown.show_window(window(**dict.fromkeys(names, False)), {}, NOW)
        shown.restore(known(ago(0), **dict.fromkeys(names, 1)), {}, NOW)
        shown.show_window(window(**dict.fromkeys(names, True)), {}, NOW)
    series = [sample for family in registry.collect() for sample in family.samples if "model" in sample.labels]
    # And those of each result of the counter of windows, its count and when it began.
    assert len(series) == 8 * MAX_FIELDS + 4


def test_of_many_fields_those_that_drift_are_shown(
    shown: DriftSeries, value: Value, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever took the room before; the others keep theirs. That there is no room for all is said once."""
    names = [f"f{number}" for number in range(2 * MAX_FIELDS)]
    clean = dict.fromkeys(names, False)
    shown.show_window(window(**clean), {}, NOW)
    for consecutive_windows in (1, 2):
        shown.show_window(window(**{**clean, names[-1]: True}), {f"features.{names[-1]}": consecutive_windows}, NOW)
        assert value("inflight_drift_drifted_windows", field=f"features.{names[-1]}") == consecutive_windows
    shown.show_window(window(**dict(reversed(clean.items()))), {}, NOW)
    kept = [value("inflight_drift_psi", field=f"features.{name}") for name in names[: MAX_FIELDS - 1]]
    assert kept == [0.5] * (MAX_FIELDS - 1)
    assert value("inflight_drift_drifted_windows", field=f"features.{names[-1]}") == 0
    assert caplog.messages.count("fields not shown") == 1
