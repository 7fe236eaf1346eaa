"""What the process that trains is told, and what it answers: JSON on its standard input and output."""

from datetime import datetime

from msgspec import Struct

from machine_learning_engineering.rollout.policy import RetrainingPolicy
from machine_learning_engineering.rollout.retraining import Trigger


class Job(Struct, frozen=True, kw_only=True):
    """One run. `now` is the time from which windows of data are counted."""

    model: str
    champion: str
    run_id: str
    trigger: Trigger
    policy: RetrainingPolicy
    now: datetime


class Step(Struct, frozen=True, tag="step"):
    """What it does now."""

    text: str


class Result(Struct, frozen=True, tag="result", kw_only=True):
    """What came of it; fields as of `retraining.challenger.Trained`."""

    outcome: str
    reason: str = ""
    version: str = ""
    rows: int = 0
    flags: tuple[str, ...] = ()


Answer = Step | Result
