"""`Collector`: the evidence of one stage of a rollout, from the topics of the deployment."""

from collections.abc import Callable
from datetime import datetime
from time import monotonic

from machine_learning_engineering.drift.profile import Field
from machine_learning_engineering.events.topics import LABELS, LOGS
from machine_learning_engineering.registry.profiles import ProfileCache
from machine_learning_engineering.rollout.evidence import Evidence
from machine_learning_engineering.rollout.record import Rollout
from machine_learning_engineering.settings import KernelSettings
from monitoring.rollout_evidence.losses import Losses
from monitoring.rollout_evidence.reader import StageReader
from monitoring.rollout_evidence.records import Records
from monitoring.rollout_evidence.summary import summarize


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
        self.records = Records(rollout, losses)
        self._losses = losses
        self._profiles = ProfileCache(settings.registry_dir)
        self._reader = StageReader(settings, rollout.stage_at, clock)

    def poll(self, timeout: float = 0.5) -> int:
        """Read what is new, at most some thousands of records; return their number.

        Args:
            timeout: Seconds to wait for the first one.

        Raises:
            KafkaException: A permanent error, or the broker does not respond; the next call goes on.
            NoBrokersLeftError: Only a new collector can connect again.
        """
        found = self._reader.read(timeout)
        records = self.records
        for topic, message in found:
            if topic == LABELS:
                records.label(message)
            elif topic == LOGS:
                records.log(message.value() or b"", message.key())
            else:
                records.shadow(message.value() or b"")
        return len(found)

    def evidence(self, now: datetime) -> Evidence:
        """What is known by what was read; `now` decides which requests are old enough to have a label."""
        return summarize(self.records, self._losses, now, self._profile())

    @property
    def is_caught_up(self) -> bool:
        """Whether all records were read that there were when it began: a verdict before that would lack some."""
        return self._reader.is_caught_up

    def close(self) -> None:
        """Let go of the connection."""
        self._reader.close()

    def _profile(self) -> dict[str, Field]:
        reference = self._profiles.get(self.rollout.model, self.rollout.champion)
        return {} if reference is None else reference.profile.predictions
