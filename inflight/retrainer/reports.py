"""What came of a model in a pass, for people and machines."""

from msgspec import Struct

from machine_learning_engineering.retraining.triggers import Due, NotDue
from machine_learning_engineering.rollout.retraining import Run


class Report(Struct, frozen=True, kw_only=True):
    """What came of one model in a pass.

    `outcome` is that of the run, "not_due", "due" for a dry run, "interrupted" if the process had to stop, or
    "unreadable" if nothing could be decided. `slot` and `trigger` are empty if nothing was due.
    """

    model: str
    outcome: str
    reason: str
    slot: str = ""
    trigger: str = ""
    version: str = ""
    rollout_id: str = ""
    rows: int = 0
    flags: tuple[str, ...] = ()
    seconds: float = 0.0

    @property
    def failed(self) -> bool:
        """Whether somebody should look at it."""
        return self.outcome in ("failed", "timed_out", "abandoned", "unreadable")


def report_of(model: str, decided: Due | NotDue) -> Report:
    """The report of a decision that led to no run."""
    if isinstance(decided, NotDue):
        outcome = "not_due" if decided.abandoned is None else "abandoned"
        return Report(model=model, outcome=outcome, reason=decided.reason)
    trigger = decided.trigger
    return Report(model=model, outcome="due", reason=trigger.reason, slot=trigger.slot, trigger=trigger.kind)


def report_on(model: str, run: Run, outcome: str, reason: str) -> Report:
    """The report on a run."""
    seconds = 0.0 if run.finished_at is None else (run.finished_at - run.started_at).total_seconds()
    return Report(
        model=model,
        outcome=outcome,
        reason=reason,
        slot=run.trigger.slot,
        trigger=run.trigger.kind,
        version=run.version,
        rollout_id=run.rollout_id,
        rows=run.rows,
        flags=run.flags,
        seconds=round(seconds, 3),
    )
