"""The record of a rollout, as the registry keeps it: what runs, and each step with who or what decided it and why."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.verdict import Verdict

Stage = Literal["shadow", "canary", "bake", "finished"]
Outcome = Literal["", "promoted", "refused", "rolled_back", "expired", "aborted"]
Action = Literal[
    "started", "widened", "promoted", "confirmed", "refused", "rolled_back", "expired", "aborted", "paused", "resumed"
]


class Step(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One step of a rollout, and the state after it. `by` is a person or ``controller``, `number` counts from 1."""

    number: int
    action: Action
    at: datetime
    by: str
    stage: Stage
    percent: int = 0
    reason: str = ""
    verdict: Verdict | None = None


class Rollout(Struct, frozen=True, kw_only=True):
    """A rollout of one version in place of another.

    `percent` of the keys are answered by the challenger: 0 in the shadow, those of the policy's ramp in the canary, 100
    from the promotion on. `salt` is new for each rollout. While it is paused, the controller takes no step forward, but
    still protects: it refuses and rolls back. `trigger` says what the challenger was trained for.
    """

    rollout_id: str
    model: str
    champion: str
    challenger: str
    salt: str
    stage: Stage
    percent: int
    policy: RolloutPolicy
    started_at: datetime
    stage_at: datetime
    """Start of the stage, or of the percentage within the canary."""
    outcome: Outcome = ""
    paused: bool = False
    trigger: str = ""
    steps: tuple[Step, ...] = ()

    @property
    def is_open(self) -> bool:
        """Whether it still runs."""
        return self.stage != "finished"


class Bar(Struct, frozen=True):
    """Why a version may not be promoted or rolled out until somebody unbars it."""

    at: datetime
    by: str
    reason: str
    rollout_id: str = ""


class Unbarring(Struct, frozen=True):
    """A version that was barred until somebody unbarred it, and why."""

    version: str
    bar: Bar
    at: datetime
    by: str
    reason: str


class Rollouts(Struct, frozen=True, omit_defaults=True):
    """The rollouts of a model: the open one or the last, those before it, and the versions that are barred.

    Fields that a reader does not know are ignored, since a newer release may have written them.
    """

    current: Rollout | None = None
    past: tuple[Rollout, ...] = ()
    barred: dict[str, Bar] = {}
    unbarred: tuple[Unbarring, ...] = ()
    """The last of those that were unbarred, oldest first."""
    revision: int = 0
    """Grows with each change."""
    signature: str = ""
