"""A year of looking has one false alarm rate, whenever and however often somebody looks."""

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.events.measurements import DriftDetected, FieldDrift
from machine_learning_engineering.retraining.looks import YEAR, Looks, drift_that_counts, window_significance

START = datetime(2026, 1, 1, tzinfo=UTC)
GAPS = st.lists(st.floats(0, 5_000), min_size=1, max_size=200)


@given(hours=GAPS, rate=st.floats(0.01, 0.5))
def test_what_is_spent_in_a_year_is_at_most_the_rate(hours, rate):
    at, looks, spent = START, Looks(), []
    for gap in hours:
        at += timedelta(hours=gap)
        if significance := looks.significance(at, rate):
            looks = looks.after(at)
            spent.append((at, significance))
    assert looks.number == len(spent)
    for begin, _ in spent:
        year = sum(significance for moment, significance in spent if begin <= moment < begin + YEAR)
        assert year <= rate + 1e-12


def test_a_look_too_early_is_put_off_and_loses_nothing():
    looks = Looks().after(START)
    assert looks.significance(START + timedelta(minutes=30), 0.05) == 0
    assert looks.significance(START - timedelta(days=1), 0.05) == 0
    assert 0 < looks.significance(START + timedelta(days=1), 0.05) < looks.significance(START + timedelta(days=2), 0.05)
    assert looks.after(START - timedelta(days=1)).last_at == START


@given(hours=st.lists(st.floats(0.01, 500), min_size=1, max_size=200), rate=st.floats(0.01, 0.5))
def test_windows_of_a_year_spend_at_most_the_rate(hours, rate):
    start, spent = START, 0.0
    for length in hours:
        end = start + timedelta(hours=length)
        if end <= START + YEAR:
            spent += window_significance(start, end, rate)
        start = end
    assert spent <= rate + 1e-12


def drifted(*p_values):
    fields = [
        FieldDrift(f"features.f{n}", "feature", "distribution", 0.3, p, p, True, 0.0, 0.0, 0.0, 0.0)
        for n, p in enumerate(p_values)
    ]
    end = START + timedelta(hours=1)
    return DriftDetected("diamonds", "v1", "w", end, START, end, 1_000, 0.01, fields)


def test_drift_that_alerts_people_is_not_yet_a_reason_to_retrain():
    assert drift_that_counts(drifted(0.005, 1e-4), 0.05) == []
    assert [field.field for field in drift_that_counts(drifted(0.005, 1e-7), 0.05)] == ["features.f1"]
