"""OpenWindow windows: when they close, with which rows, and what a closed one says."""

from collections import Counter
from datetime import timedelta

import msgspec
from msgspec import Raw

from machine_learning_engineering.drift.binning import count_into
from machine_learning_engineering.drift.profile import Profile
from monitoring.drift.measurement import drift_detected, measure
from monitoring.drift.sampling import BURST_SECONDS
from monitoring.drift.windows import DISCARDED_AFTER, Windows
from monitoring.model_version import ModelVersion
from tests.support.drift_stream import FULL_AT_SIX, HOUR, PROFILE, ROWS, Known, add, row
from tests.unit.monitoring.conftest import ACCEPTED


def rows_of(profile: Profile) -> int:
    return profile.features["carat"].rows


def test_a_window_closes_with_its_last_row() -> None:
    """It has exactly so many; the rest begins the next one."""
    windows = Windows(Known(), FULL_AT_SIX)
    assert add(windows, [row(n, seconds=n) for n in range(5)]) == []
    (closed,) = add(windows, [row(n, seconds=n) for n in range(5, 9)], first=5)
    assert (closed.version, closed.rows, closed.closed_by) == (ModelVersion("m", "1"), 6, "count")
    assert (closed.start, closed.end) == (ACCEPTED, ACCEPTED + timedelta(seconds=5))
    assert windows.open() == {
        ModelVersion("m", "1"): (3, ACCEPTED + timedelta(seconds=6), ACCEPTED + timedelta(seconds=8))
    }
    assert closed.counts == count_into(PROFILE, [{"carat": n / 10} for n in range(6)], [{"price": 5.0}] * 6)


def test_many_windows_close_in_one_batch() -> None:
    """As when there was a backlog."""
    windows = Windows(Known(), FULL_AT_SIX)
    closed = add(windows, [row(n) for n in range(20)])
    assert [window.rows for window in closed] == [6, 6, 6]
    assert len({window.window_id for window in closed}) == 3
    assert windows.row_counts == Counter({"counted": 20, "sampled_out": 0, "unreadable": 0})


def test_a_row_that_comes_too_late_is_the_first_of_the_next_window() -> None:
    """Time is that of the requests, so a backlog gives the same windows."""
    windows = Windows(Known(), FULL_AT_SIX)
    closed = add(windows, [row(0), row(1, seconds=10), row(2, seconds=3_600), row(3, seconds=3_700)])
    assert [(window.rows, window.closed_by) for window in closed] == [(2, "time")]
    assert windows.open() == {ModelVersion("m", "1"): (2, ACCEPTED + HOUR, ACCEPTED + timedelta(seconds=3_700))}


def test_a_full_window_closes_by_count_whatever_comes_behind_it() -> None:
    """A late row in the same batch is not why."""
    windows = Windows(Known(), FULL_AT_SIX)
    closed = add(windows, [*(row(n) for n in range(6)), row(6, seconds=4_000)])
    assert [(window.rows, window.closed_by) for window in closed] == [(6, "count")]


def test_a_window_of_too_few_rows_stays_open() -> None:
    """Until it has the least number, however long that takes."""
    windows = Windows(Known(), FULL_AT_SIX)
    assert add(windows, [row(0)]) == []
    assert windows.overdue(ACCEPTED + 2 * HOUR) == []
    (closed,) = add(windows, [row(1, seconds=8_000), row(2, seconds=8_001)], first=1)
    assert (closed.rows, closed.closed_by) == (2, "time")


def test_a_window_closes_when_its_time_is_over_though_nothing_comes() -> None:
    """A quiet model is looked at too."""
    windows = Windows(Known(), FULL_AT_SIX)
    add(windows, [row(0), row(1)])
    windows.changed.clear()
    assert windows.overdue(ACCEPTED + HOUR - timedelta(seconds=1)) == []
    (closed,) = windows.overdue(ACCEPTED + HOUR)
    assert (closed.rows, closed.closed_by, windows.changed) == (2, "time", {0})


def test_a_window_that_never_gets_enough_rows_is_given_up() -> None:
    """Such as that of a version which is no longer served."""
    windows = Windows(Known(), FULL_AT_SIX)
    add(windows, [row(0)])
    assert windows.overdue(ACCEPTED + HOUR * DISCARDED_AFTER) == []
    assert (windows.open(), windows.row_counts["discarded"]) == ({}, 1)


def test_partitions_fill_a_window_together() -> None:
    """And each version has windows of its own."""
    windows = Windows(Known(), FULL_AT_SIX)
    assert add(windows, [row(n) for n in range(4)], partition=0) == []
    assert add(windows, [row(n, version="2") for n in range(4)], first=4, partition=0) == []
    (closed,) = add(windows, [row(n) for n in range(4, 7)], partition=3)
    assert closed.rows == rows_of(closed.counts) == 6
    assert {version.version: rows for version, (rows, _, _) in windows.open().items()} == {"1": 1, "2": 4}


def test_a_drifted_window_is_an_event_with_the_fields_that_drifted() -> None:
    """A clean one is a measurement only."""
    limits = FULL_AT_SIX._replace(rows=100)
    windows = Windows(Known(), limits)
    grams = [
        row(
            n,
            features=Raw(msgspec.json.encode(one | {"carat": one["carat"] * 20})),
            prediction=Raw(b'{"price": %d}' % n),
        )  # type: ignore[operator]
        for n, one in enumerate(ROWS)
    ]
    clean = [
        row(n, features=Raw(msgspec.json.encode(one)), prediction=Raw(b'{"price": %d}' % n))
        for n, one in enumerate(ROWS)
    ]
    drifted, same = [
        measure(window, significance=0.01, min_psi=0.1) for window in add(windows, grams) + add(windows, clean, 100)
    ]
    event = drift_detected(drifted, ACCEPTED)
    assert event is not None
    assert [field.field for field in event.fields] == ["features.carat"]
    (field,) = event.fields
    assert field.out_of_range_rate > 0.9
    assert (field.kind, field.drifted, field.missing_rate) == ("feature", True, 0)
    assert event.window_id == drifted.window_id != same.window_id
    assert drifted.rows == 100
    assert {one.field for one in drifted.fields} == {"features.carat", "features.cut", "predictions.price"}
    assert drift_detected(same, ACCEPTED) is None


def test_more_rows_than_the_budget_are_a_sample_by_their_ids() -> None:
    """A minute's worth at once, then so many a second of the stream's time."""
    limits = FULL_AT_SIX._replace(rows=10_000, rows_per_second=1.0)
    windows, again = Windows(Known(), limits), Windows(Known(), limits)
    burst = [row(n) for n in range(200)]
    add(windows, burst)
    add(again, burst)
    assert windows.row_counts["counted"] == BURST_SECONDS
    assert windows.row_counts["sampled_out"] == 200 - BURST_SECONDS
    assert windows.state(0) == again.state(0)
    heir = Windows(Known(), limits)
    heir.restore(0, windows.state(0))
    add(heir, [row(n, seconds=10) for n in range(200, 400)], first=200)
    assert heir.row_counts["counted"] == 10
    carats = heir.state(0).parts[0].rows
    assert carats == BURST_SECONDS + 10


def test_a_clock_that_was_ahead_does_not_use_up_the_budget() -> None:
    """Else of all rows until that time nothing would be looked at; the next ones are as if they were the first."""
    windows = Windows(Known(), FULL_AT_SIX._replace(rows=10_000, rows_per_second=1.0))
    add(windows, [row(n, seconds=1e9) for n in range(200)])
    windows.row_counts.clear()
    add(windows, [row(n) for n in range(200, 400)], first=200)
    assert windows.row_counts["counted"] == BURST_SECONDS
    add(windows, [row(n, seconds=10) for n in range(400, 600)], first=400)
    assert windows.row_counts["counted"] == BURST_SECONDS + 10
