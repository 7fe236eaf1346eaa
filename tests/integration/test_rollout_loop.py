"""A rollout on a real broker with real workers, labels and controller: nobody touches anything."""

from collections.abc import Iterator
from typing import Any

import pytest
from msgspec.structs import replace

from inflight.settings import Settings
from machine_learning_engineering.events.schemas import (
    PredictionCompleted,
    PredictionFailed,
    RolloutChanged,
    decode_model_event,
)
from machine_learning_engineering.events.topics import MODEL_EVENTS
from machine_learning_engineering.kafka.client import read_to_end
from tests.support.doses import FULL
from tests.support.rolling_stream import QUICK, SECONDS, RollingStream
from tests.support.shadow_model import RAISE
from tests.support.waiting import figures, until


@pytest.fixture
def stream(settings: Settings) -> Iterator[RollingStream]:
    with RollingStream(settings) as found:
        yield found


def test_good_in_the_shadow_and_bad_under_load(stream: RollingStream) -> None:
    """It is promoted by its labels, fails on requests of a kind that no shadow had, is rolled back and barred."""
    stream.worker()
    stream.controller()
    stream.feed()
    stream.start()
    stream.reaches("bake", "finished")
    assert stream.current.stage == "bake", stream.current.steps
    until(lambda: stream.registry.champions() == {"line": "v2"}, SECONDS, "the alias follows")
    stream.bad = RAISE
    rollout = stream.reaches("finished")
    assert rollout.outcome == "rolled_back"
    verdict = rollout.steps[-1].verdict
    assert verdict is not None
    assert "errors" in {check.name for check in verdict.checks if check.status == "fail"}
    assert (stream.registry.champions(), set(stream.registry.rollouts("line").barred)) == ({"line": "v1"}, {"v2"})
    before = len(stream.sent)
    until(lambda: len(stream.sent) > before + 100, SECONDS, "requests go on")
    stream.stop()
    results = stream.answered()
    stream.check(results)
    # The last ones are answered by the version before, which fails for none of them.
    last = [one for one in results if one.request_id in list(stream.sent)[-50:]]
    assert {(type(one), one.model_version) for one in last} == {(PredictionCompleted, "v1")}
    assert {one.model_version for one in results if isinstance(one, PredictionFailed)} == {"v2"}
    told = [decode_model_event(one.value() or b"") for one in read_to_end(stream.settings, MODEL_EVENTS)]
    actions = {one.step: one.action for one in told if isinstance(one, RolloutChanged)}
    assert [actions[number] for number in sorted(actions)] == [step.action for step in rollout.steps]


@pytest.mark.skipif(not FULL, reason="make faults")
def test_without_labels_it_waits_and_expires(settings: Settings) -> None:
    """Requests flow, and nobody says what was right: that is no reason to promote, and none to bar."""
    with RollingStream(settings, labels=False) as stream:
        stream.worker()
        stream.controller()
        stream.feed()
        until(lambda: bool(stream.results()), SECONDS, "the worker answers")
        stream.start(replace(QUICK, max_shadow=45.0))
        rollout = stream.reaches("finished")
        assert [step.action for step in rollout.steps] == ["started", "expired"]
        verdict = rollout.steps[-1].verdict
        assert verdict is not None
        waits = {check.name: check.detail for check in verdict.checks if check.status == "waiting"}
        assert "labels" in " ".join(waits.values())
        assert "requests" not in waits
        assert (stream.registry.champions(), stream.registry.rollouts("line").barred) == ({"line": "v1"}, {})
        stream.stop()
        assert {one.model_version for one in stream.answered()} == {"v1"}


@pytest.mark.skipif(not FULL, reason="make faults")
def test_kills_in_each_stage(stream: RollingStream, broker: Any) -> None:
    """kill -9 of a worker, the controller and the broker in shadow, canary and bake: nine kills, and it is promoted."""
    workers = [stream.worker(), stream.worker()]
    controller = stream.controller()
    stream.feed()
    # Each stage outlasts its kills.
    stream.start(replace(QUICK, min_step=15.0, bake=15.0, max_shadow=600.0, max_canary=600.0))
    for stage in ("shadow", "canary", "bake"):
        stream.reaches(stage)
        workers.append(stream.worker())
        for victim in (workers.pop(0), controller):
            victim.process.kill()
            victim.process.wait()
        controller = stream.controller()
        before = len(stream.sent)
        until(lambda wanted=before + 200: len(stream.sent) > wanted, SECONDS, "requests go on")  # type: ignore[misc]
        broker.restart(hard=True)
    rollout = stream.reaches("finished")
    assert rollout.outcome == "promoted", rollout.steps
    assert [step.action for step in rollout.steps] == ["started", "widened", "promoted", "confirmed"]
    assert stream.registry.champions() == {"line": "v2"}
    stream.stop()
    results = stream.answered()
    stream.check(results)
    figures(requests=len(stream.sent), repeats=len(results) - len(stream.sent), kills=9)
