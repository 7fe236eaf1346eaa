"""Rollouts from end to end: the controller, workers, records and commands as processes, with nobody's help."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from inflight.adapters.rollouts import start_rollout
from inflight.settings import Settings
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.trial import Trials
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Rollout
from machine_learning_engineering.sdk import MLEModel
from tests.support.deployment import Deployment
from tests.support.waiting import until

QUICK = RolloutPolicy(
    min_requests=50, min_labels=20, warm_up_requests=0, min_step=0.5, max_shadow=4.0, max_canary=4.0, bake=3.0
)


class Rolling:
    """A deployment over a registry of its own, in which v2 answers as v1 does."""

    def __init__(self, deployment: Deployment, home: Settings) -> None:
        self.deployment = deployment
        self.home = home
        self.registry = Registry(home.registry_dir)

    def start(self, policy: RolloutPolicy = QUICK) -> Rollout:
        settings = self.deployment.settings.model_copy(update={"home": self.home.home})
        return start_rollout(settings, self.registry, "diamonds", "v2", policy=policy, reason="a test")

    def ended(self, seconds: float = 300.0) -> Rollout:
        """Wait until it has ended."""
        until(lambda: self.registry.rollout("diamonds") is None, seconds, f"the rollout ends: {self.current.steps}")
        return self.current

    @property
    def current(self) -> Rollout:
        found = self.registry.rollouts("diamonds").current
        assert found is not None
        return found


@pytest.fixture
def rolling(settings: Settings, models: Settings, diamonds: MLEModel, tmp_path: Path) -> Iterator[Rolling]:
    home = Settings(home=tmp_path / "rolling", data_dir=models.data_dir, _env_file=None)  # type: ignore[call-arg]
    shutil.copytree(Registry(models.registry_dir).path, Registry(home.registry_dir).path)
    registry = Registry(home.registry_dir)
    again = registry.open("diamonds", model_class=type(diamonds))
    version = registry.save(again, metrics={"r2": 0.9}, training_data_sha256="ab" * 32, seed=1)
    for one in ("v1", version):
        Trials(registry, home.trials_dir).pass_("diamonds", one)
    with Deployment(settings, home, diamonds) as deployment:
        yield Rolling(deployment, home)


def test_without_traffic_it_waits_and_expires(rolling: Rolling) -> None:
    """Silence is neither good nor bad: the champion stays, and nobody is barred."""
    controller = rolling.deployment.rollout_controller()
    rolling.start()
    until(lambda: controller.metric("inflight_rollout_verdict", status="waiting") == 1, 300, "it waits")
    rollout = rolling.ended()
    assert [step.action for step in rollout.steps] == ["started", "expired"]
    verdict = rollout.steps[-1].verdict
    assert verdict is not None
    assert "requests" in verdict.reason
    assert rolling.registry.champions() == {"diamonds": "v1"}
    assert rolling.registry.rollouts("diamonds").barred == {}
