"""The record of a model's retrainings, as the registry keeps it: what each was for, who does it, what came of it."""

from datetime import datetime
from typing import Any, Literal

from msgspec import Struct

Kind = Literal["quality", "drift", "labels", "schedule", "max_age"]
Outcome = Literal["running", "rollout", "challenger", "kept", "refused", "failed", "timed_out", "abandoned"]
"""`rollout`: trained, and a rollout of it was started. `challenger`: trained, but no rollout could be started. `kept`:
the evidence was not confirmed, nothing was trained. `refused`: the data can't be trained on. `abandoned`: its process
was killed too often."""


class Trigger(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Why a model is retrained. There is at most one run per `slot`, on however many machines."""

    kind: Kind
    slot: str
    at: datetime
    """Time of the slot or of the evidence."""
    reason: str
    evidence: dict[str, Any] = {}
    """Plain values."""
    significance: float = 0.0
    """Level of the test that has to confirm it; 0 for none."""


class Holder(Struct, frozen=True):
    """The process that does a run. `token` is unique; `machine` includes its boot and its namespace of processes."""

    machine: str
    pid: int
    started: int
    """When the process was started, in ticks of the machine's clock."""
    token: str
    name: str = ""


class Run(Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One retraining. A killed one is taken over by another process, which counts as an attempt of the same run."""

    trigger: Trigger
    champion: str
    holder: Holder
    started_at: datetime
    deadline: datetime
    """Of this attempt; it is killed then."""
    attempts: int = 1
    labels: int = 0
    """Labels since the champion's training, when it started."""
    outcome: Outcome = "running"
    finished_at: datetime | None = None
    reason: str = ""
    version: str = ""
    """What was trained, set once it is saved."""
    rollout_id: str = ""
    rows: int = 0
    flags: tuple[str, ...] = ()
    """What is odd about the data, though they were trained on."""


class Looks(Struct, frozen=True, omit_defaults=True):
    """How often the live quality of a model was looked at, and when last: each look spends a part of the year's rate.

    `labels` is the number of labels since the training of `champion` at the last look.
    """

    number: int = 0
    last_at: datetime | None = None
    labels: int = 0
    champion: str = ""


class Retrainings(Struct, frozen=True, omit_defaults=True):
    """The last retrainings of a model, oldest first. Fields that a reader does not know are ignored."""

    runs: tuple[Run, ...] = ()
    looks: Looks = Looks()
    revision: int = 0
    """Grows with each change."""
    signature: str = ""
