"""`Collector`: the evidence of one stage of a rollout, from the topics of the deployment."""

from collections.abc import Callable
from datetime import datetime
from time import monotonic

from machine_learning_engineering.rollout.evidence import ArmEvidence, Evidence
from machine_learning_engineering.rollout.record import Rollout
from machine_learning_engineering.settings import KernelSettings
from monitoring.rollout_evidence.losses import Losses


class Collector:
    """Reads log, shadows and labels since a stage of a rollout began. A new stage, or percentage, needs a new one.

    It joins no group and commits nothing: whoever builds it again reads the same records, and gets the same evidence.

    Args:
        settings: Connection, registry.
        rollout: As it is in the registry; its `stage_at` is where reading begins, by the broker's times.
        losses: The models' own view of predictions.
        clock: Monotonic time in seconds.
    """

    def __init__(
        self, settings: KernelSettings, rollout: Rollout, losses: Losses, clock: Callable[[], float] = monotonic
    ) -> None:
        self.rollout = rollout

    def poll(self, timeout: float = 0.5) -> int:
        """Read what is new, at most some thousands of records; return their number.

        Args:
            timeout: Seconds to wait for the first one.

        Raises:
            KafkaException: A permanent error of Kafka.
        """
        return 0

    def evidence(self, now: datetime) -> Evidence:
        """What is known by what was read; `now` decides which requests are old enough to have a label."""
        return Evidence(
            champion=ArmEvidence(version=self.rollout.champion), challenger=ArmEvidence(version=self.rollout.challenger)
        )

    @property
    def is_caught_up(self) -> bool:
        """Whether all records were read that there were when it began: a verdict before that may lack some."""
        return True

    def close(self) -> None:
        """Let go of the connection."""
