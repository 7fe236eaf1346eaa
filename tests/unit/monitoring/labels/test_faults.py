"""No label is lost or counted twice when Elasticsearch is unreachable, rejects, or changes between look and write."""

import threading
from datetime import UTC, datetime, timedelta

import pytest

from inflight.settings import Settings
from monitoring.labels import process
from monitoring.labels.reports import Rank
from monitoring.model_version import ModelVersion
from monitoring.runtime.batch_reader import Interrupted
from monitoring.runtime.retry import run_until_ready
from tests.support.label_joining import ACCEPTED, WRITTEN, Joining, Node, reported


class Prepared:
    def prepare(self) -> None:
        pass


def test_a_node_that_is_away_is_asked_again(node: Node, joining: Joining) -> None:
    """Each step of it: to find, to write, to keep."""
    node.add("r1")
    node.calls_to_fail = 2
    joining.resolver.process([reported("r1", 2.5), reported("r2", 2.5, offset=1)])
    assert joining.results() == {"joined": 1}
    assert list(node.pending) == [1]
    assert joining.backoff.causes == ["ConnectionError"] * 2


def test_only_what_failed_is_written_again(node: Node, joining: Joining) -> None:
    """An item that is refused for the time being, and one that is refused for good."""
    for number in range(4):
        node.add(f"r{number}")
    node.statuses = [200, 429, 400, 503, 429]
    joining.resolver.process([reported(f"r{number}", 1.5, offset=number) for number in range(4)])
    assert node.writes == 3
    assert joining.results() == {"joined": 3, "rejected_label": 1}
    assert [one.reason for one in node.dead_letters] == ["rejected_label"]
    assert joining.backoff.causes == ["503", "429"]


def test_a_document_that_is_deleted_meanwhile_makes_the_label_wait(node: Node, joining: Joining) -> None:
    """Its index was dropped between the look and the write."""
    node.add("r1")
    node.before_write = node.documents.clear
    joining.resolver.process([reported("r1", 2.5)])
    assert list(node.pending) == [0]
    assert joining.results() == {}


def test_nothing_is_counted_when_it_is_interrupted(node: Node, joining: Joining) -> None:
    """The same labels are read again."""
    node.add("r1")
    node.calls_to_fail = 100
    with pytest.raises(Interrupted):
        joining.resolver.process([reported("r1", 2.5)])
    assert joining.results() == {}


def test_a_label_that_is_refused_leaves_the_one_before_it(node: Node, joining: Joining) -> None:
    """As it would if they had come in two batches."""
    node.add("r1")
    node.statuses = [400, 400]
    joining.resolver.process([reported("r1", 1.5, minutes=n, offset=n) for n in range(3)])
    assert node.held("r1") == Rank(ACCEPTED, WRITTEN, "1.5")
    assert joining.results() == {"joined": 1, "rejected_label": 2}
    assert sorted(one.record.offset() for one in node.dead_letters) == [1, 2]


def test_a_version_is_measured_though_the_answer_was_lost(node: Node, joining: Joining) -> None:
    """The label was written, nobody knew, and the second time it is a repetition."""
    node.add("r1", held=Rank(ACCEPTED, WRITTEN, "1.5"))
    joining.resolver.process([reported("r1", 1.5)])
    assert joining.results() == {"repeated": 1}
    assert joining.dirty == {ModelVersion("diamonds", "v1"): 1}


def test_the_label_joiner_waits_for_topics_that_get_no_leader(monkeypatch: pytest.MonkeyPatch) -> None:
    """As while a broker comes up: it is no reason to end."""
    stopping, attempts = threading.Event(), []

    def prepare_topics(*_: object, **__: object) -> None:
        attempts.append(1)
        if len(attempts) == 2:
            return
        raise TimeoutError("prediction-labels got no leader")

    monkeypatch.setattr(process, "prepare_topics", prepare_topics)
    monkeypatch.setattr(stopping, "wait", lambda _seconds: False)
    settings = Settings(_env_file=None)  # type: ignore[call-arg]
    run_until_ready("label-joiner", lambda: process._prepare(settings, Prepared()), stopping)  # type: ignore[arg-type]
    assert len(attempts) == 2


def test_a_blocked_index_stops_only_its_own_labels(node: Node, joining: Joining) -> None:
    """An archive takes no label: its label waits like an early one, and is set aside with the reason in the end."""
    node.add("old", day=1)
    node.add("new", day=2)
    node.blocked = {"inference-logs-2026.03.01"}
    joining.resolver.process([reported("old", 1.5), reported("new", 2.5, offset=1)])
    assert node.held("new") is not None
    assert list(node.pending) == [0]
    assert joining.backoff.causes == []
    joining.look_up()
    assert list(node.pending) == [0]
    node.pending[0] = node.pending[0]._replace(since=datetime.now(UTC) - timedelta(hours=2))
    joining.look_up()
    (letter,) = node.dead_letters
    assert letter.reason == "unmatched_label"
    assert "inference-logs-2026.03.01 takes no label: cluster_block_exception" in letter.explanation
    assert node.pending == {}


def test_a_label_is_joined_once_its_index_is_open_again(node: Node, joining: Joining) -> None:
    """The block was for a while."""
    node.add("old")
    node.blocked = {"inference-logs-2026.03.01"}
    joining.resolver.process([reported("old", 1.5)])
    node.blocked = set()
    joining.look_up()
    assert (joining.results(), node.pending) == ({"joined": 1}, {})
