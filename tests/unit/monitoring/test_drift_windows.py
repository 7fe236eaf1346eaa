"""Open windows: however the records come and whoever counts them, each row counts once."""

from collections import Counter
from datetime import timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import Raw

from machine_learning_engineering.events import PredictionLogged, encode
from machine_learning_engineering.profile import Profile, merge, observe, reference_profile
from machine_learning_engineering.references import Reference
from monitoring.drift.batch import Version, objects, read_batch
from monitoring.drift.budget import BURST_SECONDS
from monitoring.drift.measurement import detected, measure
from monitoring.drift.windows import DISCARDED_AFTER, Closed, Limits, State, Windows
from tests.unit.monitoring.conftest import ACCEPTED, Record

HOUR = timedelta(hours=1)
FULL_AT_SIX = Limits(records=6, period=HOUR, least=2, per_second=1e6)


class Stone(msgspec.Struct, frozen=True):
    carat: float
    cut: str = "Ideal"


class Model:
    Features = Stone


ROWS = [{"carat": number / 10, "cut": ("Ideal", "Fair")[number % 2]} for number in range(100)]
PROFILE = reference_profile(Model, ROWS, [{"price": float(number)} for number in range(100)])  # type: ignore[arg-type]


class Known:
    """References of the versions 1 and 2 of any model."""

    def __init__(self, digest: str = "d") -> None:
        self.digest = digest

    def get(self, model: str, version: str) -> Reference | None:
        return Reference(PROFILE, self.digest) if version in ("1", "2") else None


def row(number: int, *, seconds: float = 0, version: str = "1", model: str = "m", **fields: Any) -> bytes:
    """A log record; every number has a carat of its own."""
    given: dict[str, Any] = {
        "request_id": f"r{number}",
        "model": model,
        "outcome": "completed",
        "features": Raw(msgspec.json.encode({"carat": number / 10})),
        "prediction": Raw(b'{"price": 5.0}'),
        "requested_at": ACCEPTED,
        "accepted_at": ACCEPTED + timedelta(seconds=seconds),
        "completed_at": ACCEPTED,
        "queue_seconds": 0.0,
        "score_seconds": 0.0,
        "total_seconds": 0.0,
        "batch_size": 1,
        "partition": 0,
        "offset": 0,
        "model_version": version,
    }
    return encode(PredictionLogged(**{**given, **fields}))


def numbered(values: list[bytes], first: int = 0, partition: int = 0) -> list[Any]:
    return [Record(value, first + index, partition) for index, value in enumerate(values)]


def add(windows: Windows, values: list[bytes], first: int = 0, partition: int = 0) -> list[Closed]:
    return windows.add(read_batch(numbered(values, first, partition)))


def successor(windows: Windows, *partitions: int) -> Windows:
    """What another process makes of the states, after they were on a topic."""
    found = Windows(Known(), FULL_AT_SIX)
    for partition in partitions:
        found.restore(partition, msgspec.json.decode(msgspec.json.encode(windows.state(partition)), type=State))
    return found


def rows_of(profile: Profile) -> int:
    return profile.features["carat"].rows


def test_a_window_closes_with_its_last_row() -> None:
    """It has exactly so many; the rest begins the next one."""
    windows = Windows(Known(), FULL_AT_SIX)
    assert add(windows, [row(n, seconds=n) for n in range(5)]) == []
    (closed,) = add(windows, [row(n, seconds=n) for n in range(5, 9)], first=5)
    assert (closed.version, closed.rows, closed.closed_by) == (Version("m", "1"), 6, "count")
    assert (closed.start, closed.end) == (ACCEPTED, ACCEPTED + timedelta(seconds=5))
    assert windows.open() == {Version("m", "1"): (3, ACCEPTED + timedelta(seconds=6))}
    assert closed.counts == observe(PROFILE, [{"carat": n / 10} for n in range(6)], [{"price": 5.0}] * 6)


def test_many_windows_close_in_one_batch() -> None:
    """As when there was a backlog."""
    windows = Windows(Known(), FULL_AT_SIX)
    closed = add(windows, [row(n) for n in range(20)])
    assert [window.rows for window in closed] == [6, 6, 6]
    assert len({window.window_id for window in closed}) == 3
    assert windows.tally == Counter({"counted": 20, "left-out": 0, "unreadable": 0})


def test_a_row_that_comes_too_late_is_the_first_of_the_next_window() -> None:
    """Time is that of the requests, so a backlog gives the same windows."""
    windows = Windows(Known(), FULL_AT_SIX)
    closed = add(windows, [row(0), row(1, seconds=10), row(2, seconds=3_600), row(3, seconds=3_700)])
    assert [(window.rows, window.closed_by) for window in closed] == [(2, "time")]
    assert windows.open() == {Version("m", "1"): (2, ACCEPTED + HOUR)}


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
    assert (windows.open(), windows.tally["discarded"]) == ({}, 1)


def test_partitions_fill_a_window_together() -> None:
    """And each version has windows of its own."""
    windows = Windows(Known(), FULL_AT_SIX)
    assert add(windows, [row(n) for n in range(4)], partition=0) == []
    assert add(windows, [row(n, version="2") for n in range(4)], first=4, partition=0) == []
    (closed,) = add(windows, [row(n) for n in range(4, 7)], partition=3)
    assert closed.rows == rows_of(closed.counts) == 6
    assert {version.number: rows for version, (rows, _) in windows.open().items()} == {"1": 1, "2": 4}


def test_rows_of_no_use_are_counted_and_change_nothing() -> None:
    """Failures, what is no log, what is no object, versions that have no profile."""
    windows = Windows(Known(), FULL_AT_SIX)
    failed = row(0, outcome="failed", prediction=msgspec.UNSET)
    nested = b"[" * 500 + b"]" * 500
    useless = [
        b"",
        b"{",
        b"null",
        failed,
        row(1, version="9"),
        row(2, features=Raw(b"[1]")),
        row(3, features=Raw(b"5")),
    ]
    add(windows, [*useless, row(4, features=Raw(nested)), row(5, prediction=Raw(b'"text"'))])
    expected = {"unreadable": 7, "failed": 1, "no-profile": 1, "counted": 0, "left-out": 0}
    assert (windows.tally, windows.open()) == (expected, {})
    assert windows.next_offsets == {0: 9}


def test_one_bad_value_does_not_cost_the_others() -> None:
    """They are decoded together, and again one by one if that fails."""
    values = [Raw(b'{"a": 1}'), Raw(b"{"), Raw(b'{"a": 2}')]
    assert objects(values) == [{"a": 1}, None, {"a": 2}]


def test_any_value_of_a_feature_can_be_counted() -> None:
    """Whatever a forged record holds."""
    windows = Windows(Known(), FULL_AT_SIX)
    strange = ["1e400", "-1e308", "123456789012345678901234567890", '"text"', "[1]", '{"a": 1}', "null", "true"]
    for index, value in enumerate(strange):
        text = f'{{"carat": {value}, "cut": {value}}}'
        add(windows, [row(index, features=Raw(text.encode()))], first=index)
    assert windows.tally["counted"] + windows.tally["unreadable"] == len(strange)
    assert windows.tally["counted"] >= 7


def test_a_redacted_feature_is_not_compared() -> None:
    """Neither if some rows have it as it was sent, nor after a change of hands."""
    windows = Windows(Known(), FULL_AT_SIX)
    add(windows, [row(n, redacted=["cut"]) for n in range(3)])
    heir = successor(windows, 0)
    (closed,) = add(heir, [row(n) for n in range(3, 6)], first=3)
    assert list(closed.counts.features) == list(closed.reference.features) == ["carat"]
    (closed,) = add(heir, [row(n, redacted=["*"]) for n in range(6)], first=6)
    assert list(closed.counts.features) == []
    assert list(closed.counts.predictions) == ["price"]


def test_counts_in_other_bins_are_discarded() -> None:
    """A registry that was made anew has other profiles under the same names."""
    windows = Windows(Known(), FULL_AT_SIX)
    add(windows, [row(n) for n in range(4)])
    heir = Windows(Known("another"), FULL_AT_SIX)
    heir.restore(0, windows.state(0))
    assert (heir.open(), heir.tally["discarded"], heir.changed) == ({}, 4, {0})
    assert heir.next_offsets == {0: 4}


def test_more_rows_than_the_budget_are_a_sample_by_their_ids() -> None:
    """A minute's worth at once, then so many a second of the stream's time."""
    limits = FULL_AT_SIX._replace(records=10_000, per_second=1.0)
    windows, again = Windows(Known(), limits), Windows(Known(), limits)
    burst = [row(n) for n in range(200)]
    add(windows, burst)
    add(again, burst)
    assert windows.tally["counted"] == BURST_SECONDS
    assert windows.tally["left-out"] == 200 - BURST_SECONDS
    assert windows.state(0) == again.state(0)
    heir = Windows(Known(), limits)
    heir.restore(0, windows.state(0))
    add(heir, [row(n, seconds=10) for n in range(200, 400)], first=200)
    assert heir.tally["counted"] == 10
    carats = heir.state(0).parts[0].rows
    assert carats == BURST_SECONDS + 10


def test_a_drifted_window_is_an_event_with_the_fields_that_drifted() -> None:
    """A clean one is a measurement only."""
    limits = FULL_AT_SIX._replace(records=100)
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
    event = detected(drifted, ACCEPTED)
    assert event is not None
    assert [field.field for field in event.fields] == ["features.carat"]
    (field,) = event.fields
    assert field.out_of_range_rate > 0.9
    assert (field.kind, field.drifted, field.missing_rate) == ("feature", True, 0)
    assert event.window_id == drifted.window_id != same.window_id
    assert drifted.rows == 100
    assert {one.field for one in drifted.fields} == {"features.carat", "features.cut", "predictions.price"}
    assert detected(same, ACCEPTED) is None


# Any records, in any batches, with any changes of hands.

record = st.tuples(
    st.sampled_from(["1", "1", "1", "2", "9"]), st.integers(0, 2), st.integers(0, 30), st.sampled_from([0, 0, 0, 4_000])
)
records = st.lists(record, max_size=60)


@given(records, st.lists(st.integers(1, 9)), st.data())
def test_batches_and_changes_of_hands_change_no_window(found: list[Any], sizes: list[int], data: st.DataObject) -> None:
    """Of one partition: the same windows, ids, rows and counts as if all of it came at once."""
    seconds = 0
    values = []
    for version, _, number, pause in found:
        seconds += pause
        values.append(row(number, seconds=seconds, version=version))
    once = Windows(Known(), FULL_AT_SIX)
    expected = add(once, values)
    windows, closed, at = Windows(Known(), FULL_AT_SIX), [], 0
    for size in [*sizes, len(values)]:
        closed += add(windows, values[at : at + size], first=at)
        at = min(len(values), at + size)
        if windows.next_offsets and data.draw(st.booleans()):
            windows = successor(windows, 0)
    # One batch has all rows of a version together, several take turns.
    assert sorted(closed, key=lambda one: one.window_id) == sorted(expected, key=lambda one: one.window_id)
    if values:
        assert _unordered(windows.state(0)) == _unordered(once.state(0))


def _unordered(state: State) -> Any:
    return state.next_offset, {(part.model, part.version): part for part in state.parts}


@given(records, st.lists(st.integers(0, 6)), st.data())
def test_each_row_counts_once_whoever_owns_its_partition(
    found: list[Any], sizes: list[int], data: st.DataObject
) -> None:
    """Three partitions change between two owners at any moment: windows and open parts hold each row once."""
    logs: dict[int, list[bytes]] = {0: [], 1: [], 2: []}
    for version, partition, number, _ in found:
        logs[partition].append(row(number, version=version))
    owners = [Windows(Known(), FULL_AT_SIX), Windows(Known(), FULL_AT_SIX)]
    ends = dict.fromkeys(logs, 0)
    owner_of = {0: 0, 1: 0, 2: 0}
    closed: list[Closed] = []
    for index, size in enumerate([*sizes, 100, 100, 100]):
        partition = index % 3
        owner = owners[owner_of[partition]]
        part = logs[partition][ends[partition] : ends[partition] + size]
        closed += add(owner, part, first=ends[partition], partition=partition)
        ends[partition] += len(part)
        if data.draw(st.booleans()):
            states = {p: owners[owner_of[p]].state(p) for p in logs if p in owners[owner_of[p]].next_offsets}
            owners = [Windows(Known(), FULL_AT_SIX), Windows(Known(), FULL_AT_SIX)]
            owner_of = {p: data.draw(st.integers(0, 1)) for p in logs}
            for p, state in states.items():
                owners[owner_of[p]].restore(p, state)
    left = [part for owner in owners for p in owner.next_offsets for part in _parts(owner, p)]
    for version in ("1", "2"):
        total = observe(PROFILE, [])
        for window in closed:
            if window.version.number == version:
                total = merge(total, window.counts)
        for kept in left:
            if kept.version == version:
                heir = Windows(Known(), FULL_AT_SIX)
                heir.restore(0, State(0, [kept], []))
                (window,) = heir.overdue(ACCEPTED + HOUR) or [None]
                total = merge(total, window.counts) if window else _add(total, kept)
        numbers = [number for one, _, number, _ in found if one == version]
        expected = observe(PROFILE, [{"carat": number / 10} for number in numbers], [{"price": 5.0}] * len(numbers))
        assert total == expected
    assert len({window.window_id for window in closed}) == len(closed)


def _parts(windows: Windows, partition: int) -> list[Any]:
    return windows.state(partition).parts


def _add(total: Profile, kept: Any) -> Profile:
    """A part that is too small to be closed."""
    from machine_learning_engineering.packed_counts import unpack

    return merge(total, unpack(PROFILE, kept.counts))


def test_what_may_be_in_a_state_of_another_release() -> None:
    """It is read or refused, never half understood."""
    state = Windows(Known(), FULL_AT_SIX)
    add(state, [row(0)])
    text = msgspec.json.encode(state.state(0))
    assert msgspec.json.decode(text.replace(b'"rows"', b'"new":1,"rows"'), type=State) == state.state(0)
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode(text.replace(b'"digest"', b'"other"'), type=State)


@pytest.mark.parametrize(
    ("poison", "counts"),
    [
        pytest.param(
            row(9).replace(b'"accepted_at":"2026-03-01T12:00:00Z"', b'"accepted_at":"2026-03-01T12:00:00"'), 0
        ),
        pytest.param(row(9).replace(b"2026-03-01T12:00:00Z", b"0001-01-01T00:00:00+23:59"), 0),
        pytest.param(row(9).replace(b"2026-03-01T12:00:00Z", b"9999-12-31T23:59:59Z"), 1),
        pytest.param(row(9, features=Raw(b'{"x":' * 600 + b"1" + b"}" * 600)), 0),
        pytest.param(row(9, features=Raw(b'{"x":' + b"[" * 900 + b"]" * 900 + b"}")), 0),
        pytest.param(row(9, prediction=Raw(b'{"x":' * 600 + b"1" + b"}" * 600)), 0),
        pytest.param(row(9, features=Raw(b'{"carat":1' + b"0" * 400 + b"}")), 1),
    ],
    ids=["no offset", "before year 1", "year 9999", "deep", "deep list", "deep answer", "huge"],
)
def test_no_record_stops_the_counting(poison: bytes, counts: int) -> None:
    """It would be read again at each start. What has no time or is nested too deeply is unreadable."""
    windows = Windows(Known(), FULL_AT_SIX)
    closed = add(windows, [poison, row(0), row(1), poison, row(2)])
    closed += windows.overdue(ACCEPTED + 30 * HOUR)
    assert windows.tally["counted"] == 3 + 2 * counts
    assert windows.tally["unreadable"] == 2 - 2 * counts
    for window in closed:
        assert encode(measure(window, significance=0.01, min_psi=0.1))


def test_a_clock_that_was_ahead_does_not_use_up_the_budget() -> None:
    """Else of all rows until that time nothing would be looked at; the next ones are as if they were the first."""
    windows = Windows(Known(), FULL_AT_SIX._replace(records=10_000, per_second=1.0))
    add(windows, [row(n, seconds=1e9) for n in range(200)])
    windows.tally.clear()
    add(windows, [row(n) for n in range(200, 400)], first=200)
    assert windows.tally["counted"] == BURST_SECONDS
    add(windows, [row(n, seconds=10) for n in range(400, 600)], first=400)
    assert windows.tally["counted"] == BURST_SECONDS + 10
