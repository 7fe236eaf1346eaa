"""However the records come and whoever counts them, each row counts once."""

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.drift.binning import count_into, merge
from machine_learning_engineering.drift.profile import Profile
from monitoring.drift.windows import ClosedWindow, State, Windows
from tests.support.drift_stream import FULL_AT_SIX, HOUR, PROFILE, Known, add, row, successor
from tests.unit.monitoring.conftest import ACCEPTED

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
    closed: list[ClosedWindow] = []
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
        total = count_into(PROFILE, [])
        for window in closed:
            if window.version.version == version:
                total = merge(total, window.counts)
        for kept in left:
            if kept.version == version:
                heir = Windows(Known(), FULL_AT_SIX)
                heir.restore(0, State(0, [kept], []))
                (window,) = heir.overdue(ACCEPTED + HOUR) or [None]
                total = merge(total, window.counts) if window else _add(total, kept)
        numbers = [number for one, _, number, _ in found if one == version]
        expected = count_into(PROFILE, [{"carat": number / 10} for number in numbers], [{"price": 5.0}] * len(numbers))
        assert total == expected
    assert len({window.window_id for window in closed}) == len(closed)


def _parts(windows: Windows, partition: int) -> list[Any]:
    return windows.state(partition).parts


def _add(total: Profile, kept: Any) -> Profile:
    """A part that is too small to be closed."""
    from machine_learning_engineering.drift.serialization import deserialize

    return merge(total, deserialize(PROFILE, kept.counts))


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
    assert (heir.open(), heir.row_counts["discarded"], heir.changed) == ({}, 4, {0})
    assert heir.next_offsets == {0: 4}


def test_what_may_be_in_a_state_of_another_release() -> None:
    """It is read or refused, never half understood."""
    state = Windows(Known(), FULL_AT_SIX)
    add(state, [row(0)])
    text = msgspec.json.encode(state.state(0))
    assert msgspec.json.decode(text.replace(b'"rows"', b'"new":1,"rows"'), type=State) == state.state(0)
    with pytest.raises(msgspec.MsgspecError):
        msgspec.json.decode(text.replace(b'"digest"', b'"other"'), type=State)
