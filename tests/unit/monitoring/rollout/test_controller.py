"""The controller over a real registry: what it writes, announces and shows, and what one failure leaves alone."""

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest
from confluent_kafka import KafkaError, KafkaException
from prometheus_client import CollectorRegistry

from machine_learning_engineering.events.schemas import ModelPromoted, RolloutChanged, decode_model_event, encode
from machine_learning_engineering.registry.rolling import change_rollouts
from machine_learning_engineering.rollout import machine
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Rollout
from monitoring.rollout.controller import Controller
from monitoring.rollout.metrics import RolloutMetrics
from tests.support.scripted_rollouts import Script, ScriptedSource, line_registry

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = RolloutPolicy(ramp=(5, 50), max_shadow=100.0, max_canary=100.0, bake=60.0)


class Setting:
    """A registry, a controller with a scripted judge, and a clock that a test moves."""

    def __init__(self, folder: Path) -> None:
        self.registry = line_registry(folder)
        self.now = BEGIN
        self.judge = Script()
        self.events: list[RolloutChanged | ModelPromoted] = []
        self.broker_fails = False
        self.sources: list[ScriptedSource] = []
        self.metrics = CollectorRegistry()
        self.controller = self.another(self.metrics)

    def another(self, metrics: CollectorRegistry | None = None) -> Controller:
        shown = RolloutMetrics(metrics or CollectorRegistry())
        clock: Callable[[], datetime] = lambda: self.now  # noqa: E731
        return Controller(self.registry, self._collect, self.judge, self._publish, shown, clock)

    def start(self, challenger: str = "v2", policy: RolloutPolicy = POLICY) -> None:
        change_rollouts(
            self.registry,
            "line",
            lambda found: machine.start(
                found,
                model="line",
                champion="v1",
                challenger=challenger,
                policy=policy,
                now=self.now,
                by="ada",
                reason="new",
            ),
        )

    def look(self, *statuses: Any, after: float = 0.0) -> Rollout:
        """One look per status, `after` seconds later each."""
        for status in statuses:
            self.judge.statuses = [status]
            self.now += timedelta(seconds=after)
            self.controller.look_at_all()
        found = self.registry.rollouts("line").current
        assert found is not None
        return found

    def metric(self, name: str, **labels: str) -> float | None:
        return self.metrics.get_sample_value(f"inflight_rollout_{name}", labels)

    def _collect(self, rollout: Rollout) -> ScriptedSource:
        self.sources.append(ScriptedSource(rollout))
        return self.sources[-1]

    def _publish(self, event: RolloutChanged | ModelPromoted) -> None:
        if self.broker_fails:
            raise KafkaException(KafkaError(KafkaError._ALL_BROKERS_DOWN))
        self.events.append(event)


@pytest.fixture
def setting(tmp_path: Path) -> Setting:
    return Setting(tmp_path / "registry")


def test_a_good_version_goes_all_the_way_unattended(setting: Setting) -> None:
    """Each stage has evidence of its own, each step an event; the alias follows the promotion."""
    setting.start()
    rollout = setting.look("pass", "pass", "pass", "waiting", "pass", after=61)
    assert (rollout.outcome, setting.registry.champions()) == ("promoted", {"line": "v2"})
    assert [source.rollout.percent for source in setting.sources] == [0, 5, 50, 100]
    assert all(source.is_closed for source in setting.sources[:-1])
    assert {stage for stage, _ in setting.judge.asked} == {"shadow", "canary", "bake"}
    steps = [event for event in setting.events if isinstance(event, RolloutChanged)]
    assert [(event.step, event.action) for event in steps] == [
        (1, "started"), (2, "widened"), (3, "widened"), (4, "promoted"), (5, "confirmed"),
    ]  # fmt: skip
    (promoted,) = (event for event in setting.events if isinstance(event, ModelPromoted))
    assert (promoted.model_version, promoted.previous_version) == ("v2", "v1")
    for event in setting.events:
        assert decode_model_event(encode(event)) == event
    assert msgspec.json.decode(steps[1].verdict)["checks"][0]["name"] == "errors"


def test_a_bad_version_is_rolled_back_and_barred_and_the_metrics_tell(setting: Setting) -> None:
    setting.start()
    setting.look("pass", "pass", "pass")
    assert setting.registry.champions() == {"line": "v2"}
    assert setting.metric("stage", model="line", stage="bake") == 1
    assert setting.metric("challenger_ratio", model="line") == 1
    rollout = setting.look("fail", after=10)
    assert (rollout.outcome, setting.registry.champions()) == ("rolled_back", {"line": "v1"})
    assert "v2" in setting.registry.rollouts("line").barred
    setting.look("pass", "pass")
    assert setting.registry.champions() == {"line": "v1"}
    assert setting.metric("stage", model="line", stage="finished") == 1
    assert setting.metric("ended_rollouts", model="line", outcome="rolled_back") == 1
    assert setting.metric("ended_timestamp_seconds", model="line", outcome="rolled_back") == setting.now.timestamp()
    assert setting.metric("verdict", model="line", status="fail") is None
    assert setting.metric("stage_seconds", model="line") is None


def test_while_it_waits_the_metrics_show_for_what(setting: Setting) -> None:
    setting.start()
    setting.look("waiting", after=30)
    assert setting.metric("stage_seconds", model="line") == 30
    assert setting.metric("limit_seconds", model="line") == 100
    assert setting.metric("check", model="line", check="errors", status="waiting") == 1
    assert setting.metric("controller_look_timestamp_seconds") == setting.now.timestamp()
    assert setting.look("waiting", after=80).outcome == "expired"


def test_several_controllers_take_each_step_once(setting: Setting) -> None:
    """All of them judge the same record at the same time, again and again."""
    setting.start(policy=RolloutPolicy(ramp=tuple(range(1, 41)), bake=1e9))
    setting.judge.statuses = ["pass"]
    controllers = [setting.another() for _ in range(3)]
    barrier = threading.Barrier(len(controllers))

    def look(controller: Controller) -> None:
        for _ in range(10):
            barrier.wait(60)
            controller.look_at_all()

    threads = [threading.Thread(target=look, args=(controller,)) for controller in controllers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    rollout = setting.registry.rollouts("line").current
    assert rollout is not None
    # Ten rounds; in each, one step or more, and each step is the next percentage.
    assert 11 <= len(rollout.steps) <= 31
    assert [step.percent for step in rollout.steps] == list(range(len(rollout.steps)))


def test_a_broker_that_is_away_keeps_nobody_from_rolling_back(setting: Setting) -> None:
    """What was not announced is announced later, once."""
    setting.start()
    setting.look("pass", "pass", "pass")
    setting.events.clear()
    setting.broker_fails = True
    assert setting.look("fail").outcome == "rolled_back"
    assert setting.registry.champions() == {"line": "v1"}
    assert (setting.metric("controller_errors_total", cause="KafkaException") or 0) >= 1
    setting.broker_fails = False
    setting.look("waiting", "waiting")
    assert [(event.step, event.action) for event in setting.events if isinstance(event, RolloutChanged)] == [
        (5, "rolled_back")
    ]


def test_a_new_controller_announces_what_the_killed_one_may_not_have(setting: Setting) -> None:
    setting.start()
    setting.broker_fails = True
    setting.look("fail")
    setting.start("v3")
    setting.broker_fails = False
    setting.judge.statuses = ["waiting"]
    setting.another().look_at_all()
    ids = [(event.challenger, event.action) for event in setting.events if isinstance(event, RolloutChanged)]
    assert ids == [("v2", "started"), ("v2", "refused"), ("v3", "started")]


def test_evidence_that_is_incomplete_moves_nothing(setting: Setting) -> None:
    setting.start()
    setting.look("waiting")
    setting.sources[-1].is_caught_up = False
    assert len(setting.look("pass", "fail", after=200).steps) == 1
    assert len(setting.judge.asked) == 1


def test_a_record_that_changes_while_it_is_judged_is_left_as_it_is(setting: Setting) -> None:
    """Somebody pauses between the look and the write: the pass counts for nothing."""
    setting.start()
    judge = setting.judge

    def judging(*arguments: Any) -> Any:
        change_rollouts(setting.registry, "line", lambda found: machine.pause(found, model="line", now=BEGIN, by="ada"))
        return judge(*arguments)

    judge.statuses = ["pass"]
    setting.controller._judge = judging
    setting.controller.look_at_all()
    rollout = setting.registry.rollout("line")
    assert rollout is not None
    assert ([step.action for step in rollout.steps], rollout.percent) == (["started", "paused"], 0)


def test_a_damaged_record_is_an_error_that_is_seen_and_goes(setting: Setting) -> None:
    path = setting.registry.path / "line" / "rollouts.json"
    setting.start()
    content = path.read_bytes()
    path.write_bytes(b"{")
    setting.controller.look_at_all()
    assert setting.metric("controller_errors_total", cause="CorruptModel") == 1
    assert setting.metric("controller_look_timestamp_seconds") == 0
    path.write_bytes(content)
    assert setting.look("waiting").stage == "shadow"
    assert setting.metric("controller_look_timestamp_seconds") == BEGIN.timestamp()
