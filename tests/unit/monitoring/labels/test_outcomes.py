"""What becomes of each label: it is joined, waits for its request, or is set aside with the reason."""

from datetime import timedelta
from itertools import count

import pytest

from monitoring.labels import resolver
from monitoring.labels.reports import Rank
from monitoring.model_version import ModelVersion
from tests.support.label_joining import ACCEPTED, WRITTEN, Joining, Node, Record, reported


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "undecodable_label"),
        (b"{", "undecodable_label"),
        (b"[" * 100_000, "undecodable_label"),
        (b'{"request_id":"r1","model":"m","label":1}', "undecodable_label"),
        (b'{"request_id":"","model":"m","label":1,"observed_at":"2026-01-01T00:00:00Z"}', "undecodable_label"),
        (b'{"request_id":"r1","model":"m","label":1,"observed_at":"2026-01-01T00:00:00"}', "undecodable_label"),
        (b'{"request_id":"r1","model":"m","label":1,"observed_at":"0001-01-01T00:00:00+10:00"}', "undecodable_label"),
        (b'{"request_id":"r1","model":"m","label":null,"observed_at":"2026-01-01T00:00:00Z"}', "invalid_label"),
        (b'{"request_id":"r1","model":"m","label":"\xff","observed_at":"2026-01-01T00:00:00Z"}', "invalid_label"),
        (b'{"request_id":"r1","model":"m","label":1e999,"observed_at":"2026-01-01T00:00:00Z"}', "invalid_label"),
    ],
)
def test_what_is_no_label_is_set_aside(node: Node, joining: Joining, value: bytes | None, reason: str) -> None:
    """And the labels around it are joined."""
    node.add("r1")
    joining.resolver.process([reported("r1", 1.5), Record(value, 1)])
    assert [(dead_letter.reason, dead_letter.record.value()) for dead_letter in node.dead_letters] == [(reason, value)]
    assert joining.results() == {"joined": 1, reason: 1}


def test_a_label_that_the_model_refuses_is_set_aside(node: Node) -> None:
    """With the model's reason; the request keeps waiting for a better one."""
    node.add("r1")
    joining = Joining(node, lambda model, label: f"{model} wants a price" if label == b'"dear"' else None)
    joining.resolver.process([reported("r1", "dear", 5), reported("r1", 2.5, 1)])
    assert [
        (dead_letter.reason, dead_letter.explanation, dead_letter.request_id) for dead_letter in node.dead_letters
    ] == [("invalid_label", "diamonds wants a price", "r1")]
    assert node.held("r1") == Rank(ACCEPTED + timedelta(minutes=1), WRITTEN, "2.5")


def test_a_label_of_another_model_is_set_aside(node: Node, joining: Joining) -> None:
    """It would poison the model's quality."""
    node.add("r1", model="titanic")
    joining.resolver.process([reported("r1", 2.5), reported("r1", True, model="titanic")])
    assert [(one.reason, one.model, one.explanation) for one in node.dead_letters] == [
        ("wrong_model_label", "diamonds", "the request was for titanic")
    ]
    assert joining.results() == {"joined": 1, "wrong_model_label": 1}
    assert node.held("r1") == Rank(ACCEPTED, WRITTEN, "true")


def test_names_of_models_that_nobody_has_do_not_fill_the_metrics(node: Node, joining: Joining) -> None:
    """What is set aside is counted for the model "unknown"."""
    for number in range(9):
        node.add(f"r{number}")
    joining.resolver.process([reported(f"r{number}", 1, model=f"forged-{number}") for number in range(9)])
    labels = {"model": "unknown", "result": "wrong_model_label"}
    assert joining.registry.get_sample_value("inflight_labels_total", labels) == 9


def test_an_early_label_waits_and_is_joined_when_its_request_comes(node: Node, joining: Joining) -> None:
    """Its delay is counted, and its version is to be measured."""
    joining.resolver.process([reported("r1", 2.5, 90)])
    joining.look_up()
    assert (list(node.pending), joining.results(), joining.dirty) == ([0], {}, {})
    node.add("r1")
    joining.look_up()
    assert (list(node.pending), joining.results()) == ([], {"joined": 1})
    assert joining.dirty == {ModelVersion("diamonds", "v1"): 1}
    assert joining.registry.get_sample_value("inflight_label_delay_seconds_sum", {"model": "diamonds"}) == 5_400


def test_a_label_that_waited_too_long_is_set_aside(node: Node, joining: Joining) -> None:
    """As a dead letter with the original record; a younger one goes on waiting."""
    joining.resolver.process([reported("r1", 2.5, offset=1), reported("r2", 2.5, offset=2)])
    waiting = node.pending[1]
    node.pending[1] = waiting._replace(since=waiting.since - timedelta(hours=2))
    joining.look_up()
    assert [(one.reason, one.request_id, one.record.offset()) for one in node.dead_letters] == [
        ("unmatched_label", "r1", 1)
    ]
    assert list(node.pending) == [2]
    assert joining.results() == {"unmatched_label": 1}


def test_all_that_waits_is_looked_up_page_by_page(node: Node, joining: Joining) -> None:
    """Also what was put to wait long ago."""
    joining.resolver.process([reported(f"r{number}", 1.5, offset=number) for number in range(20)])
    for number in range(0, 20, 3):
        waiting = node.pending[number]
        node.pending[number] = waiting._replace(since=waiting.since - timedelta(seconds=200 * number))
    for number in range(19):
        node.add(f"r{number}")
    joining.look_up()
    assert list(node.pending) == [19]
    assert joining.results() == {"joined": 19}


def test_old_labels_are_looked_up_though_young_ones_are_always_due(
    node: Node, joining: Joining, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when each step takes longer than it is until the young ones are due again."""
    clock = count(0, 10)
    monkeypatch.setattr(resolver, "monotonic", lambda: float(next(clock)))
    joining.resolver.process([reported(f"r{number}", 1.5, offset=number) for number in range(2)])
    waiting = node.pending[1]
    node.pending[1] = waiting._replace(since=waiting.since - timedelta(seconds=600))
    node.add("r1")
    for _ in range(20):
        joining.resolver.look_up([0])
    assert list(node.pending) == [0]
