"""What a retrainer is given: evidence, a way to train, and one to start a rollout."""

from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Protocol

from inflight.retrainer.evidence import Champion, Seen
from inflight.retrainer.job import Job, Result
from machine_learning_engineering.rollout.policy import ModelPolicy


class Evidence(Protocol):
    """What the stream tells, see `evidence.StreamEvidence`."""

    def read(self, champions: Mapping[str, Champion], now: datetime) -> dict[str, Seen]: ...


class Train(Protocol):
    """Does a job, see `child.run`."""

    def __call__(
        self,
        job: Job,
        *,
        seconds: float,
        on_progress: Callable[[str], None],
        stopping: Callable[[], bool] = lambda: False,
    ) -> Result: ...


class StartRollout(Protocol):
    """Starts the rollout of a version and returns its id. Raises `RolloutRefused`."""

    def __call__(self, model: str, challenger: str, policy: ModelPolicy, reason: str, trigger: str) -> str: ...
