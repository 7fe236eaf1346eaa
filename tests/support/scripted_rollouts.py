"""Registries, evidence and verdicts of rollouts, as a test writes them."""

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path

from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.rollout.evidence import ArmEvidence, Evidence
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Rollout, Stage
from machine_learning_engineering.rollout.verdict import Check, Status, Verdict
from tests.support.line_model import Line, some


def line_registry(folder: Path, versions: int = 3) -> Registry:
    """A registry with some versions of `Line`, the first of which is the champion."""
    registry, model = Registry(folder), Line()
    rows = some(2.0, count=50)
    model.estimator = model.new_estimator(1)
    features = [model.decode(b'{"number": %f}' % one.features["number"]) for one in rows]
    model.estimator.fit(model.build_inputs(features), [one.label for one in rows])
    for _ in range(versions):
        registry.save(model, metrics={"r2": 0.9}, training_data_sha256="ab" * 32, seed=1)
    registry.promote("line", "v1")
    return registry


class ScriptedSource:
    """Evidence of a stage that says nothing; the verdict is the script's."""

    def __init__(self, rollout: Rollout) -> None:
        self.rollout = rollout
        self.is_caught_up = True
        self.is_closed = False

    def poll(self, timeout: float = 0.5) -> int:
        return 0

    def evidence(self, now: datetime) -> Evidence:
        return Evidence(
            champion=ArmEvidence(version=self.rollout.champion),
            challenger=ArmEvidence(version=self.rollout.challenger),
        )

    def close(self) -> None:
        self.is_closed = True


class Script:
    """A judge that gives one status after another, and the last one for ever; `waiting` at first by default."""

    def __init__(self, *statuses: Status) -> None:
        self.statuses: Sequence[Status] = statuses or ("waiting",)
        self.asked: list[tuple[Stage, float]] = []

    def __call__(self, evidence: Evidence, policy: RolloutPolicy, stage: Stage, seconds: float) -> Verdict:
        self.asked.append((stage, seconds))
        status, *rest = self.statuses
        self.statuses = rest or [status]
        return Verdict(status, f"{status} in {stage}", (Check("errors", status, "as scripted"),))
