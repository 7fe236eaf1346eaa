"""Windows in a row in which a field drifted: whoever measured those before, and whatever became of it."""

import msgspec

from monitoring.drift.consecutive import ConsecutiveDrift
from monitoring.drift.measurement import measure
from monitoring.drift.windows import State, Windows
from monitoring.model_version import ModelVersion
from tests.support.drift_stream import FULL_AT_SIX, Known, add, row, successor
from tests.unit.monitoring.conftest import ACCEPTED

VERSION = ModelVersion("m", "1")


def window(windows: Windows, number: int, *drifted: str, partitions: tuple[int, ...] = (0,)) -> dict[str, int]:
    """Fill and measure the window of this number, in which these fields drift; what is in a row with it."""
    rows = 6 // len(partitions)
    closed = []
    for partition in partitions:
        first = windows.next_offsets.get(partition, 0)
        values = [row(n, seconds=3_600 * number) for n in range(rows)]
        closed += add(windows, values, first, partition)
    (one,) = closed
    measured = measure(one, significance=0.01, min_psi=0.1)
    fields = [msgspec.structs.replace(field, drifted=field.field in drifted) for field in measured.fields]
    return windows.conclude(one, msgspec.structs.replace(measured, fields=fields))


def test_windows_in_a_row_are_counted_by_field() -> None:
    """A field that drifts once, and another one in the next window, are no row of two."""
    windows = Windows(Known(), FULL_AT_SIX)
    assert window(windows, 0, "features.carat") == {"features.carat": 1}
    assert window(windows, 1, "features.carat", "features.cut") == {"features.carat": 2, "features.cut": 1}
    assert window(windows, 2, "features.cut") == {"features.cut": 2}
    assert window(windows, 3) == {}
    assert window(windows, 4, "features.cut") == {"features.cut": 1}


def test_a_restart_between_two_windows_goes_on_counting() -> None:
    """The alert needs two in a row, and a deployment is no reason to begin anew."""
    windows = Windows(Known(), FULL_AT_SIX)
    window(windows, 0, "features.carat")
    heir = successor(windows, 0)
    assert heir.consecutive() == {VERSION: ConsecutiveDrift(ACCEPTED, {"features.carat": 1})}
    assert window(heir, 1, "features.carat") == {"features.carat": 2}


def test_of_partitions_from_two_owners_the_newest_window_counts() -> None:
    """One saw the drift end after the other one had lost its partition."""
    first, second = Windows(Known(), FULL_AT_SIX), Windows(Known(), FULL_AT_SIX)
    window(first, 0, "features.carat", partitions=(0,))
    window(second, 1, "features.cut", partitions=(1,))
    heir = Windows(Known(), FULL_AT_SIX)
    for partition, owner in ((1, second), (0, first)):
        heir.restore(partition, owner.state(partition))
    assert heir.consecutive()[VERSION].windows == {"features.cut": 1}
    assert window(heir, 2, "features.carat", "features.cut") == {"features.carat": 1, "features.cut": 2}


def test_a_partition_without_rows_in_the_window_learns_of_it_too() -> None:
    """Else it would bring what is long over to its next owner, and be published only when it has rows again."""
    windows = Windows(Known(), FULL_AT_SIX)
    window(windows, 0, "features.carat", partitions=(0, 1))
    windows.changed.clear()
    window(windows, 1, partitions=(1,))
    assert windows.changed == {0, 1}
    assert successor(windows, 0).consecutive()[VERSION].windows == {}


def test_a_window_that_was_late_does_not_stay_behind_another_one() -> None:
    """By the clock of one partition it is tomorrow: the windows after it count all the same."""
    windows = Windows(Known(), FULL_AT_SIX)
    window(windows, 24, "features.carat", partitions=(0,))
    assert window(windows, 1, "features.carat", partitions=(1,)) == {"features.carat": 2}
    assert window(windows, 2, "features.carat", partitions=(1,)) == {"features.carat": 3}


def test_what_is_no_longer_ours_or_no_longer_registered_is_forgotten() -> None:
    """Names of versions come from the stream; of those that are gone, states do not grow for ever."""
    windows = Windows(Known(), FULL_AT_SIX)
    window(windows, 0, "features.carat")
    state = windows.state(0)
    windows.clear()
    assert windows.consecutive() == {}
    streaks = [*state.consecutive, ("m", "gone", state.consecutive[0][2])]
    windows.restore(0, msgspec.structs.replace(state, consecutive=streaks))
    assert set(windows.consecutive()) == {VERSION}


def test_a_state_without_streaks_is_read() -> None:
    """Of the release before: it goes on where it was."""
    windows = Windows(Known(), FULL_AT_SIX)
    add(windows, [row(0)])
    text = msgspec.json.encode(windows.state(0)).replace(b',"streaks":[]', b"")
    assert b"streaks" not in text
    assert msgspec.json.decode(text, type=State) == windows.state(0)
