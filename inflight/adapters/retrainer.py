"""What retrainings are given: how the rollout of a challenger is started."""

from inflight.adapters.rollouts import start_rollout
from inflight.retrainer.ports import StartRollout
from inflight.settings import Settings
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.rollout.policy import ModelPolicy

BY = "retrainer"
"""Who starts the rollout of what a trigger had trained."""


def starter(settings: Settings) -> StartRollout:
    """Starts rollouts in the registry of the settings and announces them."""
    registry = Registry(settings.registry_dir)

    def start(model: str, challenger: str, policy: ModelPolicy, reason: str, trigger: str) -> str:
        rollout = start_rollout(
            settings,
            registry,
            model,
            challenger,
            policy=policy.rollout,
            reason=reason,
            by=BY,
            trigger=trigger,
        )
        return rollout.rollout_id

    return start
