"""Which label of a request counts: the same one in whatever order, and however often, they come."""

import random
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from monitoring.labels.reports import NEVER, Rank, Report, read
from tests.support.label_joining import ACCEPTED, WRITTEN, Joining, Node, reported

REPORTS = st.lists(
    st.tuples(
        st.sampled_from(["r1", "r2", "r3"]),
        st.sampled_from([1, 2.5, True, "good", [1, 2]]),
        st.sampled_from([0, 0.5, 7, 7, 3_000]),
    ),
    max_size=12,
)


@given(REPORTS, st.integers(0, 2**32), st.integers(1, 5), st.sets(st.sampled_from(["r1", "r2", "r3"])))
@settings(max_examples=300, deadline=None)
def test_any_order_and_repetition_gives_the_same_labels(
    reports: list[tuple[str, Any, float]], seed: int, size: int, late: set[str]
) -> None:
    """In batches of any size, each reported once or thrice, some before their request is logged."""
    expected: dict[str, Rank] = {}
    for request_id, label, minutes in reports:
        found = read(reported(request_id, label, minutes))
        assert isinstance(found, Report)
        expected[request_id] = max(found.rank, expected.get(request_id, found.rank))
    chance = random.Random(seed)
    again = [report for report in reports for _ in range(chance.choice([1, 3]))]
    chance.shuffle(again)
    node = Node()
    joining = Joining(node)
    for request_id in {"r1", "r2", "r3"} - late:
        node.add(request_id)
    records = [reported(*report, offset=number) for number, report in enumerate(again)]
    for start in range(0, len(records), size):
        joining.resolver.process(records[start : start + size])
        if chance.random() < 0.3:
            joining.look_up()
    for request_id in late:
        node.add(request_id)
    joining.look_up()
    assert {name: node.held(name) for name in expected} == expected
    assert node.pending == {}
    # Each report has one result, and each request is joined once.
    assert sum(joining.results().values()) == len(records)
    assert joining.results()["joined"] == len(expected)
    assert node.dead_letters == []


@given(REPORTS, st.integers(0, 2**32))
@settings(max_examples=100, deadline=None)
def test_two_joiners_at_once_give_the_same_labels(reports: list[tuple[str, Any, float]], seed: int) -> None:
    """The other one writes at the worst moment: after we looked, before we write."""
    chance = random.Random(seed)
    node = Node()
    for request_id in ("r1", "r2", "r3"):
        node.add(request_id)
    records = [reported(*report, offset=number) for number, report in enumerate(reports)]
    other, ours = Joining(node), Joining(node)
    theirs = list(records)
    chance.shuffle(theirs)

    def interfere() -> None:
        node.before_write = lambda: None
        other.resolver.process([theirs.pop() for _ in range(min(len(theirs), 2))])
        node.before_write = interfere if theirs else lambda: None

    node.before_write = interfere
    ours.resolver.process(records)
    found = [read(record) for record in records]
    ranks = {
        name: max(one.rank for one in found if isinstance(one, Report) and one.request_id == name)
        for name in {report[0] for report in reports}
    }
    assert {name: node.held(name) for name in ranks} == ranks


def test_a_request_id_of_two_days_is_labelled_twice_and_counted_once(node: Node, joining: Joining) -> None:
    """Each document is a request; the report is one."""
    node.add("r1", day=1)
    node.add("r1", day=2)
    joining.resolver.process([reported("r1", 2.5)])
    assert [one.held for one in node.documents.values()] == [Rank(ACCEPTED, WRITTEN, "2.5")] * 2
    assert joining.results() == {"joined": 1}


def test_a_label_without_a_time_gives_way(node: Node, joining: Joining) -> None:
    """One that was there before labels had times."""
    node.add("r1", held=Rank(NEVER, NEVER, "9.5"))
    joining.resolver.process([reported("r1", 2.5)])
    assert joining.results() == {"replaced": 1}
    assert node.held("r1") == Rank(ACCEPTED, WRITTEN, "2.5")


def test_a_wrong_label_can_be_corrected(node: Node, joining: Joining) -> None:
    """With the same time of observation: the record that was written later counts, in any order."""
    node.add("r1")
    node.add("r2")
    later = WRITTEN + timedelta(seconds=1)
    joining.resolver.process([reported("r1", True, 5), reported("r1", False, 5, at=later)])
    joining.resolver.process([reported("r2", False, 5, at=later), reported("r2", True, 5)])
    assert node.held("r1") == node.held("r2") == Rank(ACCEPTED + timedelta(minutes=5), later, "false")


@pytest.mark.parametrize("year", [9999, 2027])
def test_no_label_of_the_future_wins(node: Node, joining: Joining, year: int) -> None:
    """Such a label would keep every other label of the request out forever."""
    node.add("r1")
    minutes = (datetime(year, 12, 31, tzinfo=UTC) - ACCEPTED).total_seconds() / 60
    joining.resolver.process([reported("r1", True, minutes), reported("r1", False, 5)])
    assert [letter.reason for letter in node.dead_letters] == ["invalid_label"]
    assert node.held("r1") == Rank(ACCEPTED + timedelta(minutes=5), WRITTEN, "false")


def test_a_label_of_history_is_joined(node: Node, joining: Joining) -> None:
    """The outcome was known before its request was replayed; any label of later beats it."""
    node.add("r1")
    joining.resolver.process([reported("r1", 1.5, -(10**6))])
    joining.resolver.process([reported("r1", 2.5, 1, offset=1)])
    assert joining.results() == {"joined": 1, "replaced": 1}


def test_a_label_that_is_sent_again_is_no_other_one(node: Node, joining: Joining) -> None:
    """But it beats what was reported in between, at whatever time the joiner sees them."""
    node.add("r1")
    for seconds, label in ((0, True), (2, True), (1, False)):
        joining.resolver.process([reported("r1", label, 5, at=WRITTEN + timedelta(seconds=seconds))])
    assert joining.results() == {"joined": 1, "repeated": 1, "superseded": 1}
    held = node.held("r1")
    assert held is not None
    assert held.label == "true"


@pytest.mark.parametrize("where", ["value", "key", "headers"])
def test_a_label_has_a_size(node: Node, joining: Joining, where: str) -> None:
    """Of its whole record: what is pending is kept for days."""
    record = reported("r1", "x" * 70_000 if where == "value" else 1)
    if where == "key":
        record.key = lambda: b"k" * 70_000  # type: ignore[method-assign]
    if where == "headers":
        record.headers = lambda: [("h", b"v" * 70_000)]  # type: ignore[method-assign]
    joining.resolver.process([record, reported("r1", 2, offset=1)])
    assert [letter.reason for letter in node.dead_letters] == ["undecodable_label"]
    assert list(node.pending) == [1]
