"""The offset tracker: what may be committed, against a naive model that remembers every answered record."""

from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from stream_app.kafka import offsets
from stream_app.kafka.offsets import OffsetTracker
from tests.support.doses import FULL

EXAMPLES, STEPS = 600 if FULL else 320, 60
MINIMUM_STEPS = 10_000
PARTITIONS = ("a", "b", "c")


def exists(offset: int) -> bool:
    """The log has holes, as a compacted topic or one with transactions has."""
    return offset % 7 != 3


class Begun(NamedTuple):
    partition: str
    first: int
    next_offset: int

    @property
    def records(self) -> set[int]:
        return {offset for offset in range(self.first, self.next_offset) if exists(offset)}


class TrackerMachine(RuleBasedStateMachine):
    """A worker whose partitions come and go, whose batches finish in any order, some of them after their time."""

    steps: ClassVar[int] = 0
    tracker_class: ClassVar[type[OffsetTracker[str]]] = OffsetTracker

    def __init__(self) -> None:
        super().__init__()
        self.tracker = self.tracker_class()
        self.on_broker = dict.fromkeys(PARTITIONS, 0)
        self.answered: dict[str, set[int]] = {partition: set() for partition in PARTITIONS}
        # Of the assignment that the worker has now: batches in order, each with whether it is finished.
        self.owned: dict[str, dict[Begun, bool]] = {}
        self.unfinished: list[Begun] = []

    def _step(self) -> None:
        type(self).steps += 1

    @initialize(partitions=st.sets(st.sampled_from(PARTITIONS), min_size=1))
    def assign(self, partitions: set[str]) -> None:
        self.tracker.assign(partitions)
        self.owned = {partition: {} for partition in partitions}

    @rule(partitions=st.sets(st.sampled_from(PARTITIONS), min_size=1))
    def rebalance(self, partitions: set[str]) -> None:
        """All partitions go, then some come: the same ones or others."""
        self._step()
        self.tracker.revoke(list(self.owned))
        assert self.tracker.committable() == {}
        assert self.tracker.unfinished() == 0
        self.assign(partitions)

    @precondition(lambda self: len(self.owned) > 1)
    @rule(data=st.data())
    def revoke(self, data: st.DataObject) -> None:
        self._step()
        partition = data.draw(st.sampled_from(sorted(self.owned)))
        self.tracker.revoke([partition])
        del self.owned[partition]

    @rule(data=st.data(), count=st.integers(1, 4))
    def begin(self, data: st.DataObject, count: int) -> None:
        self._step()
        partition = data.draw(st.sampled_from(sorted(self.owned)))
        batches = self.owned[partition]
        # A new assignment reads from the committed offset on, and cuts the same records differently.
        position = max((begun.next_offset for begun in batches), default=self.on_broker[partition])
        records = [offset for offset in range(position, position + 2 * count + 2) if exists(offset)][:count]
        begun = Begun(partition, records[0], records[-1] + 1)
        self.tracker.begin(*begun)
        batches[begun] = False
        self.unfinished.append(begun)

    @precondition(lambda self: self.unfinished)
    @rule(data=st.data())
    def finish(self, data: st.DataObject) -> None:
        """Any batch that was ever begun: of this assignment, or of one that is over."""
        self._finish(data.draw(st.integers(0, len(self.unfinished) - 1)))

    @precondition(lambda self: self.unfinished)
    @rule()
    def finish_the_first(self) -> None:
        self._finish(0)

    def _finish(self, index: int) -> None:
        self._step()
        begun = self.unfinished.pop(index)
        self.answered[begun.partition] |= begun.records
        ours = self.owned.get(begun.partition, {}).get(begun) is False
        assert self.tracker.finish(*begun) is ours
        if ours:
            self.owned[begun.partition][begun] = True

    @rule(data=st.data())
    def finish_twice(self, data: st.DataObject) -> None:
        self._step()
        done = [begun for batches in self.owned.values() for begun, finished in batches.items() if finished]
        if done:
            assert self.tracker.finish(*data.draw(st.sampled_from(done))) is False

    @rule(takes=st.booleans())
    def commit(self, takes: bool) -> None:
        """The broker takes the offsets, or the commit fails and the next one has to say the same."""
        self._step()
        offsets = self.tracker.committable()
        if takes:
            self.tracker.committed(offsets)
            self.on_broker.update(offsets)
            assert self.tracker.committable() == {}
        else:
            assert self.tracker.committable() == offsets

    @invariant()
    def nothing_unanswered_is_committed(self) -> None:
        for partition, offset in self.tracker.committable().items():
            missing = {record for record in range(offset) if exists(record)} - self.answered[partition]
            assert not missing, f"{offset} of {partition} passes the unanswered records {missing}"
            assert offset >= self.on_broker[partition]

    @invariant()
    def everything_finished_and_contiguous_is_committed(self) -> None:
        expected = {}
        for partition, batches in self.owned.items():
            for begun, finished in batches.items():
                if not finished:
                    break
                expected[partition] = begun.next_offset
        # Compared with what the broker has: to repeat a committed offset would be harmless and is not done.
        assert self.tracker.committable() == {
            partition: offset for partition, offset in expected.items() if offset != self.on_broker[partition]
        }

    @invariant()
    def only_unfinished_batches_are_counted(self) -> None:
        waiting = [begun for batches in self.owned.values() for begun, finished in batches.items() if not finished]
        assert self.tracker.unfinished() == len(waiting)
        oldest = self.tracker.oldest()
        assert (oldest is None) == (not waiting)
        if oldest is not None:
            assert (oldest[0], oldest[1]) in {(begun.partition, begun.first) for begun in waiting}
            assert oldest[2] >= 0


def run(tracker_class: type[OffsetTracker[str]], *, phases: tuple[Phase, ...] = tuple(Phase)) -> int:
    """Run the machine over a tracker; returns the number of steps that were executed."""
    machine = type("Machine", (TrackerMachine,), {"steps": 0, "tracker_class": tracker_class})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=STEPS,
            deadline=None,
            database=None,
            phases=phases,
            suppress_health_check=list(HealthCheck),
        ),
    )
    return machine.steps  # type: ignore[attr-defined, no-any-return]


def test_the_commit_never_passes_an_unanswered_record_in_ten_thousand_steps() -> None:
    """Whatever is assigned, begun, finished, revoked and committed, in whatever order."""
    assert run(OffsetTracker) >= MINIMUM_STEPS


class CommitsPastGap(OffsetTracker[str]):
    """A mutant: the highest finished batch decides."""

    def finish(self, partition: str, first: int, next_offset: int) -> bool:
        done = super().finish(partition, first, next_offset)
        if done:
            state = self._partitions[partition]
            state.committable_offset = max(state.committable_offset or 0, next_offset)
        return done


class IgnoresRevoke(OffsetTracker[str]):
    """A mutant: batches of a partition that has another owner are still committed."""

    def revoke(self, partitions: Any) -> None:
        pass


class TakesAnySliceForItsSuccessor(OffsetTracker[str]):
    """A mutant: a batch of an earlier assignment finishes the longer one that begins at the same offset now."""

    def finish(self, partition: str, first: int, next_offset: int) -> bool:
        state = self._partitions.get(partition)
        found = state.open.get(first) if state is not None else None
        return super().finish(partition, first, found.next_offset if found is not None else next_offset)


@pytest.mark.parametrize("mutant", [CommitsPastGap, IgnoresRevoke, TakesAnySliceForItsSuccessor])
def test_the_machine_catches_seeded_bugs(mutant: type[OffsetTracker[str]]) -> None:
    """What the test above is worth."""
    with pytest.raises(AssertionError):
        run(mutant, phases=(Phase.generate,))


def test_an_empty_batch_is_refused() -> None:
    """It would never be finished."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a"])
    with pytest.raises(ValueError, match=r"empty batch 5\.\.5 of a"):
        tracker.begin("a", 5, 5)


def test_a_batch_that_begins_inside_an_earlier_one_is_refused() -> None:
    """Its records would be counted twice."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a"])
    tracker.begin("a", 0, 10)
    with pytest.raises(ValueError, match="begins below 10"):
        tracker.begin("a", 9, 12)


def test_a_batch_of_a_foreign_partition_is_refused() -> None:
    """Nobody would commit it."""
    tracker: OffsetTracker[str] = OffsetTracker()
    with pytest.raises(KeyError):
        tracker.begin("a", 0, 1)


ACTIONS: list[Callable[[OffsetTracker[str]], Any]] = [
    lambda tracker: tracker.finish("a", 0, 1),
    lambda tracker: tracker.committed({"a": 3}),
    lambda tracker: tracker.revoke(["a"]),
]


@pytest.mark.parametrize("act", ACTIONS)
def test_what_comes_late_for_a_revoked_partition_does_nothing(act: Callable[[OffsetTracker[str]], Any]) -> None:
    """Acknowledgements and commits are answered by other threads, after the partition has gone."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign(["a"])
    tracker.begin("a", 0, 1)
    tracker.revoke(["a"])
    assert not act(tracker)
    assert tracker.committable() == {}
    assert tracker.oldest() is None


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [1_000.0]
    monkeypatch.setattr(offsets, "monotonic", lambda: now[0])
    return now


def test_a_batch_that_waits_behind_others_is_not_old(clock: list[float]) -> None:
    """Batches are begun long before their turn comes: as long as they get done one after the other, all is well."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign("ab")
    begun = [(partition, first, first + 10) for partition in "ab" for first in range(0, 100, 10)]
    for batch in begun:
        tracker.begin(*batch)
        clock[0] += 0.001
    for partition, first, next_offset in begun:
        clock[0] += 10
        oldest = tracker.oldest()
        assert oldest is not None
        assert oldest[:2] == (partition, first)
        assert oldest[2] == pytest.approx(10, abs=0.1)
        tracker.finish(partition, first, next_offset)
    assert tracker.oldest() is None


def test_a_lost_batch_grows_old_whatever_is_finished_behind_it(clock: list[float]) -> None:
    """Also where its partition goes on, and others do."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign("ab")
    for batch in [("b", 0, 1), ("a", 0, 1), ("a", 1, 2)]:
        tracker.begin(*batch)
        clock[0] += 1
    tracker.finish("b", 0, 1)
    for number in range(2, 10):
        clock[0] += 10
        tracker.begin("a", number, number + 1)
        tracker.begin("b", number, number + 1)
        tracker.finish("a", number - 1, number)
        tracker.finish("b", number, number + 1)
    assert tracker.oldest() == ("a", 0, 80.0)


def test_what_begins_after_a_pause_is_young(clock: list[float]) -> None:
    """Nothing advanced meanwhile, because there was nothing."""
    tracker: OffsetTracker[str] = OffsetTracker()
    tracker.assign("a")
    clock[0] += 3_600
    tracker.begin("a", 0, 1)
    clock[0] += 2
    assert tracker.oldest() == ("a", 0, 2.0)
