"""Rollouts for tests of the worker."""

from datetime import UTC, datetime
from typing import Any

import msgspec

from machine_learning_engineering.registry import rollouts as rollout_file
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Rollout, Rollouts
from stream_app.serving.arms import Arms, roles

AT = datetime(2026, 1, 2, tzinfo=UTC)
SALT = "5f3c9a01d2e4b687"


def rollout(stage: Any = "canary", percent: int = 25, *, model: str = "doubling", **changes: Any) -> Rollout:
    """An open rollout of v2 in place of v1; `policy` are fields of its policy."""
    policy = RolloutPolicy(**changes.pop("policy", {}))
    return msgspec.structs.replace(
        Rollout(
            rollout_id="9f1c2a7b",
            model=model,
            champion="v1",
            challenger="v2",
            salt=SALT,
            stage=stage,
            percent=percent,
            policy=policy,
            started_at=AT,
            stage_at=AT,
        ),
        **changes,
    )


def arms(given: Rollout, *models: Any, **redactors: Any) -> Arms:
    """The arms of a rollout in a worker that serves the first of these models."""
    found = roles(given, models[0].version)
    assert found is not None
    return Arms(given, found, {model.version: model for model in models}, redactors)


def keep(registry: Registry, current: Rollout | None) -> Rollouts:
    """Make a rollout the current one of its model, or end the one of ``line``."""
    name = "line" if current is None else current.model
    return rollout_file.change(registry.files, name, lambda before: msgspec.structs.replace(before, current=current))
