"""Whether a model is to be retrained now: a function of its policy, what is known of it, and the time. Pure.

Triggers only train. A run belongs to a slot, such as one time of a schedule, and each slot has at most one run. Whoever
claims a slot decides again with the record as it is in the registry, so nothing here depends on what others do.
"""

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta

import msgspec
from msgspec import Struct

from machine_learning_engineering.retraining import looks as looking
from machine_learning_engineering.rollout.policy import RetrainingPolicy
from machine_learning_engineering.rollout.retraining import Holder, Kind, Looks, Retrainings, Run, Trigger
from machine_learning_engineering.rollout.schedule import newest_slot

CATCH_UP = timedelta(days=1)
"""A slot of the schedule that was missed is made up for within this time, and then only the newest."""
MIN_LABELLED = 200
"""Labels that a training needs, and each look at the quality."""
MAX_ATTEMPTS = 3
"""Attempts at a run whose process is killed."""
MAX_RUNS = 200
"""Maximum number of runs kept per model, oldest dropped first; more than the budget of a day."""
_GRACE = timedelta(seconds=60)
_DAY = timedelta(days=1)


class DriftSeen(Struct, frozen=True):
    """The newest window of the champion's requests, if it has drifted, and since when all windows have.

    `p_value` is the least of its fields, corrected for their number.
    """

    window_id: str
    window_start: datetime
    window_end: datetime
    since: datetime
    p_value: float
    fields: tuple[str, ...]


class QualitySeen(Struct, frozen=True):
    """The newest live value of the champion's primary metric, with the upper end of its confidence interval."""

    window_end: datetime
    metric: str
    value: float
    upper: float
    reference: float | None
    rows: int


class Facts(Struct, frozen=True, kw_only=True):
    """What is known of a model.

    `champion_at` is when it was trained. `labels` counts those since then, `labels_in_drift` those since the drift
    began. `unknown` says which evidence could not be read, and why.
    """

    model: str
    champion: str | None
    champion_at: datetime | None = None
    rollout: str = ""
    """Description of the open rollout; empty if there is none."""
    drift: DriftSeen | None = None
    quality: QualitySeen | None = None
    labels: int = 0
    labels_in_drift: int = 0
    unknown: str = ""


class Due(Struct, frozen=True):
    """A run is to be made; of `before`, if it is one whose process was killed."""

    trigger: Trigger
    before: Run | None = None


class NotDue(Struct, frozen=True):
    """Nothing is to be done, and why. `abandoned` is a run that was killed too often, to be recorded as such."""

    reason: str
    abandoned: Run | None = None


def examine(
    policy: RetrainingPolicy,
    facts: Facts,
    known: Retrainings,
    now: datetime,
    is_gone: Callable[[Holder], bool] = lambda holder: False,
) -> tuple[Due | NotDue, Looks]:
    """Decide whether a model is to be retrained.

    Args:
        known: Its retrainings until now.
        is_gone: Whether the process that holds a run is known to have ended.

    Returns:
        The decision, and the looks with those that it took. They have to be recorded in either case.
    """
    if facts.champion is None or facts.champion_at is None:
        return NotDue(f"there is no champion: inflight train {facts.model}"), known.looks
    running = next((run for run in reversed(known.runs) if run.outcome == "running"), None)
    if running is not None:
        return _running(running, now, is_gone), known.looks
    if facts.rollout:
        return NotDue(f"a rollout is open: {facts.rollout}"), known.looks
    if why := _held_back(policy, known, now):
        # No look is taken of what could not lead to a run.
        return NotDue(why), known.looks
    if (failed := _failed(known, facts.champion, now)) is not None:
        return Due(failed.trigger, failed), known.looks
    found, looks = _found(policy, facts, known, now)
    if found is None:
        return NotDue("; ".join(filter(None, ("nothing is due", facts.unknown)))), looks
    if why := _frozen(policy, facts):
        return NotDue(f"{found.kind} is due ({found.reason}), but {why}"), looks
    return Due(found), looks


def claim(
    known: Retrainings, due: Due, facts: Facts, policy: RetrainingPolicy, holder: Holder, now: datetime
) -> Retrainings:
    """The retrainings with a run that `holder` has begun."""
    deadline = now + timedelta(seconds=policy.deadline)
    if due.before is not None:
        run = msgspec.structs.replace(
            due.before,
            holder=holder,
            deadline=deadline,
            attempts=due.before.attempts + 1,
            outcome="running",
            finished_at=None,
            reason="",
        )
        return with_run(known, run)
    assert facts.champion is not None
    run = Run(
        trigger=due.trigger,
        champion=facts.champion,
        holder=holder,
        started_at=now,
        deadline=deadline,
        labels=facts.labels,
    )
    return msgspec.structs.replace(known, runs=(*known.runs, run)[-MAX_RUNS:])


def with_run(known: Retrainings, run: Run) -> Retrainings:
    """The retrainings with a run in place of the one of its slot."""
    runs = tuple(run if one.trigger.slot == run.trigger.slot else one for one in known.runs)
    return msgspec.structs.replace(known, runs=runs)


def _running(run: Run, now: datetime, is_gone: Callable[[Holder], bool]) -> Due | NotDue:
    gone = is_gone(run.holder)
    if not gone and now <= run.deadline + _GRACE:
        where = f" by {run.holder.name}" if run.holder.name else ""
        return NotDue(f"{run.trigger.slot} runs{where}, until {run.deadline:%Y-%m-%dT%H:%M:%SZ} at the latest")
    if run.attempts >= MAX_ATTEMPTS:
        return NotDue(f"{run.trigger.slot} was killed {run.attempts} times and is given up", abandoned=run)
    return Due(run.trigger, run)


def _held_back(policy: RetrainingPolicy, known: Retrainings, now: datetime) -> str:
    """Why no run may begin now, whatever the evidence; empty if one may."""
    counted = [run for run in known.runs if run.outcome != "kept"]
    newest = max((run.finished_at or run.started_at for run in counted), default=None)
    if newest is not None and now < (until := newest + timedelta(seconds=policy.cool_down)):
        return f"it cools down until {until:%Y-%m-%dT%H:%M:%SZ}"
    # A time in the future is of another clock, and counts as well.
    today = sorted(run.started_at for run in counted if run.started_at > now - _DAY for _ in range(run.attempts))
    if len(today) >= policy.daily_budget:
        until = today[-policy.daily_budget] + _DAY
        return f"{len(today)} runs within a day are the daily budget, the next may start at {until:%Y-%m-%dT%H:%M:%SZ}"
    return ""


def _failed(known: Retrainings, champion: str, now: datetime) -> Run | None:
    """The last run if it failed, as for a log that was unavailable, and may be tried once more."""
    last = known.runs[-1] if known.runs else None
    if last is None or last.outcome != "failed" or last.champion != champion or last.attempts >= MAX_ATTEMPTS:
        return None
    return last if now - last.started_at <= CATCH_UP else None


def _frozen(policy: RetrainingPolicy, facts: Facts) -> str:
    """Why what drifts may not be trained on yet; empty if it may.

    The reference stays that of the champion. What has drifted becomes training data by its labels alone, and older
    rows would give a model of yesterday.
    """
    if policy.data or facts.drift is None or facts.labels_in_drift >= MIN_LABELLED:
        return ""
    return (
        f"the requests have drifted since {facts.drift.since:%Y-%m-%dT%H:%M:%SZ}, with {facts.labels_in_drift} labels "
        f"since then: at least {MIN_LABELLED} are needed"
    )


def _found(policy: RetrainingPolicy, facts: Facts, known: Retrainings, now: datetime) -> tuple[Trigger | None, Looks]:
    """The first trigger whose slot is free: what hurts most comes first."""
    quality, looks = _quality(policy, facts, known.looks, now)
    taken = {run.trigger.slot for run in known.runs}
    candidates = (quality, _drift(policy, facts), *_by_count_and_clock(policy, facts, known, now))
    return next((one for one in candidates if one is not None and one.slot not in taken), None), looks


def _rate(policy: RetrainingPolicy) -> float:
    """The rate of a year, of which drift and quality have a half each."""
    return policy.false_alarms_per_year / (policy.drift + policy.quality)


def _quality(policy: RetrainingPolicy, facts: Facts, looks: Looks, now: datetime) -> tuple[Trigger | None, Looks]:
    seen = facts.quality
    # Labels are counted from the champion's training on.
    before = looks.labels if looks.champion == facts.champion else 0
    if not policy.quality or seen is None or facts.labels < before + MIN_LABELLED:
        return None, looks
    if seen.rows < MIN_LABELLED:
        # The log does not have enough of them yet: a look would be wasted.
        return None, looks
    state = looking.Looks(looks.number, looks.last_at)
    significance = state.significance(now, _rate(policy))
    if not significance:
        return None, looks
    # Also one that shows nothing is a look.
    state = state.after(now)
    looks = Looks(state.number, state.last_at, facts.labels, facts.champion or "")
    if seen.reference is None or seen.upper >= seen.reference:
        return None, looks
    reason = f"{seen.metric} {seen.value:.4g} of {seen.rows} labelled requests, {seen.reference:.4g} at the training"
    trigger = Trigger(
        kind="quality",
        slot=f"quality-{seen.window_end:%Y%m%dT%H%M%S%fZ}",
        at=seen.window_end,
        reason=reason,
        evidence=msgspec.to_builtins(seen) | {"look": looks.number},
        significance=significance,
    )
    return trigger, looks


def _drift(policy: RetrainingPolicy, facts: Facts) -> Trigger | None:
    seen = facts.drift
    if not policy.drift or seen is None:
        return None
    level = looking.window_significance(seen.window_start, seen.window_end, _rate(policy))
    if seen.p_value > level:
        return None
    reason = f"{', '.join(seen.fields[:5])} drifted since {seen.since:%Y-%m-%dT%H:%M:%SZ} (p = {seen.p_value:.2g})"
    return Trigger(
        kind="drift",
        slot=f"drift-{safe(seen.window_id)}",
        at=seen.window_end,
        reason=reason,
        evidence=msgspec.to_builtins(seen) | {"significance": level},
    )


def _by_count_and_clock(
    policy: RetrainingPolicy, facts: Facts, known: Retrainings, now: datetime
) -> Iterator[Trigger | None]:
    assert facts.champion is not None
    assert facts.champion_at is not None
    mine = [run for run in known.runs if run.champion == facts.champion and run.outcome != "kept"]
    if policy.new_labels:
        multiple = facts.labels // policy.new_labels
        # A run for any reason has used the labels that were there.
        if multiple > max((run.labels // policy.new_labels for run in mine), default=0):
            reason = f"{facts.labels} labels since the training of {facts.champion}"
            slot = f"labels-{facts.champion}-{multiple}"
            yield _plain("labels", slot, now, reason, labels=facts.labels, new_labels=policy.new_labels)
    # The champion has served its own time, and so has each run that began since.
    served = max((facts.champion_at, *(run.started_at for run in known.runs if run.outcome != "kept")))
    if policy.schedule:
        try:
            at = newest_slot(policy.schedule, now)
        except StopIteration:
            at = facts.champion_at
        if at > served and now - at <= CATCH_UP:
            slot = f"schedule-{at:%Y%m%dT%H%M%SZ}"
            yield _plain("schedule", slot, at, f"the schedule {policy.schedule}", schedule=policy.schedule)
    if policy.max_age:
        age = (now - facts.champion_at).total_seconds()
        multiple = int(age // policy.max_age)
        at = facts.champion_at + timedelta(seconds=multiple * policy.max_age)
        # One that could not replace it is followed by another when as much time has passed again.
        if multiple > 0 and at > served:
            slot = f"max-age-{facts.champion}-{multiple}"
            reason = f"{facts.champion} is {age / 86_400:.1f} days old"
            yield _plain("max_age", slot, at, reason, age=age, max_age=policy.max_age)


def _plain(kind: Kind, slot: str, at: datetime, reason: str, **evidence: object) -> Trigger:
    return Trigger(kind=kind, slot=slot, at=at, reason=reason, evidence=dict(evidence))


def safe(text: str) -> str:
    """An id as a part of a slot: only characters that may be in a name of a file."""
    return "".join(one if one.isascii() and (one.isalnum() or one in "-_") else "-" for one in text)[:100]
