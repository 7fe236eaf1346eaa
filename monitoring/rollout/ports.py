"""What the controller is given: evidence, and who judges it."""

from collections.abc import Callable
from datetime import datetime
from typing import Protocol

from machine_learning_engineering.rollout.evidence import Evidence
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Rollout, Stage
from machine_learning_engineering.rollout.verdict import Verdict


class EvidenceSource(Protocol):
    """Evidence of one stage of one rollout. Another stage, or percentage, has another source."""

    def poll(self, timeout: float = 0.5) -> int:
        """Read what is new, and return the number of records read; 0 if there was none within `timeout` seconds."""

    def evidence(self, now: datetime) -> Evidence:
        """What is known."""

    @property
    def is_caught_up(self) -> bool:
        """Whether all was read that there was when it began."""

    def close(self) -> None:
        """Let go of connections."""


Collect = Callable[[Rollout], EvidenceSource]
Judge = Callable[[Evidence, RolloutPolicy, Stage, float], Verdict]
"""Evidence, policy, stage, and its age in seconds."""
