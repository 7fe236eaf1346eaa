"""How a rollout moves: commands of people, and what a verdict leads to by its policy. Pure.

Each function takes the rollouts of a model and returns them as they are after; what may not happen raises
`RolloutRefused`. `advance` never raises: a verdict that leads nowhere returns what it was given.
"""

import secrets
from datetime import datetime, timedelta
from typing import Literal

from msgspec.structs import replace

from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Action, Bar, Outcome, Rollout, Rollouts, Stage, Step, Unbarring
from machine_learning_engineering.rollout.verdict import Check, Verdict

CONTROLLER = "controller"
"""Who decided a step that no person did."""
MAX_PAST = 50
"""Maximum number of ended rollouts kept per model, oldest dropped first. Bars stay."""
MAX_STEPS = 500
"""Number of steps from which on a rollout can't be paused: what is left is for those that end it."""


class RolloutRefused(ValueError):
    """A rollout may not start, or not move like this. The message names the model and what to do."""


def start(
    rollouts: Rollouts,
    *,
    model: str,
    champion: str,
    challenger: str,
    policy: RolloutPolicy,
    now: datetime,
    by: str,
    reason: str,
    trigger: str = "",
) -> Rollouts:
    """Start a rollout in its first stage, with a new salt.

    Args:
        rollouts: Those of the model.
        model: Its name.
        champion: The version that answers now.
        challenger: The version to roll out.
        policy: Kept with the rollout: a later change of the file does not change it.
        now: With a time zone.
        by: Who starts it.
        reason: Why, in a sentence.
        trigger: What the challenger was trained for.

    Raises:
        RolloutRefused: Another one is open, the challenger is barred or the champion, or the policy has no stage that
            could find a fault.
    """
    if (current := rollouts.current) is not None and current.is_open:
        raise RolloutRefused(
            f"model `{model}` has an open rollout, {current.champion} to {current.challenger} ({current.stage}): "
            f"wait for its end, or end it with inflight rollout abort {model}"
        )
    if challenger == champion:
        raise RolloutRefused(f"{challenger} is the champion of model `{model}` already: choose another version")
    refuse_barred(rollouts, model, challenger)
    _check(policy, model)
    shadow = policy.shadow_share > 0
    rollout = Rollout(
        rollout_id=f"{model}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(3)}",
        model=model,
        champion=champion,
        challenger=challenger,
        salt=secrets.token_hex(16),
        stage="shadow" if shadow else "canary",
        percent=0 if shadow else policy.ramp[0],
        policy=policy,
        started_at=now,
        stage_at=now,
        trigger=trigger,
    )
    past = rollouts.past if current is None else (*rollouts.past, _shortened(current))[-MAX_PAST:]
    return replace(rollouts, current=_step(rollout, "started", now, by, reason), past=past)


def pause(rollouts: Rollouts, *, model: str, now: datetime, by: str, reason: str = "") -> Rollouts:
    """Stop a rollout from going forward or expiring. It is still refused or rolled back if a check fails.

    Raises:
        RolloutRefused: None is open, or it is paused.
    """
    rollout = _open(rollouts, model)
    if rollout.paused:
        raise RolloutRefused(f"the rollout of model `{model}` is paused already: see inflight rollout show {model}")
    if len(rollout.steps) >= MAX_STEPS:
        raise RolloutRefused(
            f"the rollout of model `{model}` has {len(rollout.steps)} steps: end it with inflight rollout promote or "
            "abort"
        )
    return replace(rollouts, current=_step(replace(rollout, paused=True), "paused", now, by, reason))


def resume(rollouts: Rollouts, *, model: str, now: datetime, by: str, reason: str = "") -> Rollouts:
    """Let a paused rollout go on. The time of the pause does not count for its deadline.

    Raises:
        RolloutRefused: None is open, or it is not paused.
    """
    rollout = _open(rollouts, model)
    if not rollout.paused:
        raise RolloutRefused(f"the rollout of model `{model}` is not paused: see inflight rollout show {model}")
    return replace(rollouts, current=_step(replace(rollout, paused=False), "resumed", now, by, reason))


def promote(rollouts: Rollouts, *, model: str, now: datetime, by: str, reason: str) -> Rollouts:
    """Promote the challenger without waiting for a verdict; in the bake, end the bake. For people.

    Raises:
        RolloutRefused: None is open.
    """
    rollout = _open(rollouts, model)
    if rollout.stage == "bake":
        return _end(rollouts, rollout, "promoted", "confirmed", now, by, reason)
    return replace(rollouts, current=_bake(replace(rollout, paused=False), now, by, reason))


def abort(rollouts: Rollouts, *, model: str, now: datetime, by: str, reason: str) -> Rollouts:
    """End a rollout: the version before answers again, and the challenger is not barred.

    Raises:
        RolloutRefused: None is open.
    """
    return _end(rollouts, _open(rollouts, model), "aborted", "aborted", now, by, reason)


def unbar(rollouts: Rollouts, version: str, *, model: str, now: datetime, by: str, reason: str) -> Rollouts:
    """Allow a barred version to be promoted and rolled out again. Who did it and why is kept.

    Raises:
        RolloutRefused: It is not barred.
    """
    if (bar := rollouts.barred.get(version)) is None:
        raise RolloutRefused(f"{version} of model `{model}` is not barred: see inflight rollout show {model}")
    barred = {name: one for name, one in rollouts.barred.items() if name != version}
    unbarred = (*rollouts.unbarred, Unbarring(version, bar, now, by, reason))[-MAX_PAST:]
    return replace(rollouts, barred=barred, unbarred=unbarred)


def refuse_barred(rollouts: Rollouts, model: str, version: str) -> None:
    """Raise `RolloutRefused` if a version is barred."""
    if (bar := rollouts.barred.get(version)) is not None:
        raise RolloutRefused(
            f"{version} of model `{model}` is barred since {bar.at:%Y-%m-%d %H:%M} UTC ({bar.reason:.300}): if it may "
            f"answer after all, first inflight rollout unbar {model} {version} --reason '...'"
        )


def advance(rollouts: Rollouts, verdict: Verdict, now: datetime, *, by: str = CONTROLLER) -> Rollouts:
    """What the policy makes of a verdict of the open rollout's stage.

    A failure refuses in the shadow and rolls back after it, and bars the version; a pass goes one step forward; a stage
    without either for too long expires, and the champion stays. While it is paused, only a failure does anything.
    """
    rollout = rollouts.current
    if rollout is None or not rollout.is_open:
        return rollouts
    if verdict.status == "fail":
        outcome: Literal["refused", "rolled_back"] = "refused" if rollout.stage == "shadow" else "rolled_back"
        bar = Bar(now, by, verdict.reason, rollout.rollout_id)
        barred = replace(rollouts, barred={**rollouts.barred, rollout.challenger: bar})
        return _end(barred, rollout, outcome, outcome, now, by, verdict.reason, verdict)
    if rollout.paused:
        return rollouts
    if rollout.stage == "bake":
        return _after_bake(rollouts, rollout, verdict, now, by)
    if verdict.status == "pass":
        return replace(rollouts, current=_forward(rollout, verdict, now, by))
    limit = stage_limit(rollout)
    if stage_seconds(rollout, now) < limit:
        return rollouts
    reason = f"no verdict in {limit:g} s of {rollout.stage}: {verdict.reason}"
    return _end(rollouts, rollout, "expired", "expired", now, by, reason, verdict)


def stage_seconds(rollout: Rollout, now: datetime) -> float:
    """Seconds that the stage has lasted, all percentages of a canary together, without pauses."""
    began, paused_at, pauses = rollout.started_at, None, timedelta()
    stage = ""
    for step in rollout.steps:
        if step.stage != stage:
            began, stage, pauses = step.at, step.stage, timedelta()
        if step.action == "paused":
            paused_at = step.at
        elif paused_at is not None:
            pauses += max(step.at - max(paused_at, began), timedelta())
            paused_at = None
    if paused_at is not None:
        pauses += max(now - max(paused_at, began), timedelta())
    return max(0.0, (now - began - pauses).total_seconds())


def stage_limit(rollout: Rollout) -> float:
    """Seconds after which the stage of an open rollout expires, or may end in the case of the bake."""
    policy = rollout.policy
    limits = {"shadow": policy.max_shadow, "canary": policy.max_canary, "bake": policy.bake}
    return limits.get(rollout.stage, 0.0)


def _after_bake(rollouts: Rollouts, rollout: Rollout, verdict: Verdict, now: datetime, by: str) -> Rollouts:
    bake = stage_limit(rollout)
    if stage_seconds(rollout, now) < bake or (bake and verdict.status != "pass"):
        return rollouts
    return _end(rollouts, rollout, "promoted", "confirmed", now, by, verdict.reason, verdict)


def _forward(rollout: Rollout, verdict: Verdict, now: datetime, by: str) -> Rollout:
    wider = [percent for percent in rollout.policy.ramp if percent > rollout.percent]
    if not wider:
        return _bake(rollout, now, by, verdict.reason, verdict)
    widened = replace(rollout, stage="canary", percent=wider[0], stage_at=now)
    return _step(widened, "widened", now, by, verdict.reason, verdict)


def _bake(rollout: Rollout, now: datetime, by: str, reason: str, verdict: Verdict | None = None) -> Rollout:
    return _step(replace(rollout, stage="bake", percent=100, stage_at=now), "promoted", now, by, reason, verdict)


def _end(
    rollouts: Rollouts,
    rollout: Rollout,
    outcome: Outcome,
    action: Action,
    now: datetime,
    by: str,
    reason: str,
    verdict: Verdict | None = None,
) -> Rollouts:
    finished: Stage = "finished"
    percent = 100 if outcome == "promoted" else 0
    ended = replace(rollout, stage=finished, percent=percent, stage_at=now, outcome=outcome, paused=False)
    return replace(rollouts, current=_step(ended, action, now, by, reason, verdict))


def _step(
    rollout: Rollout, action: Action, now: datetime, by: str, reason: str, verdict: Verdict | None = None
) -> Rollout:
    step = Step(
        number=len(rollout.steps) + 1,
        action=action,
        at=now,
        by=by,
        stage=rollout.stage,
        percent=rollout.percent,
        reason=reason,
        verdict=verdict,
    )
    return replace(rollout, steps=(*rollout.steps, step))


def _shortened(rollout: Rollout) -> Rollout:
    """An ended rollout without the checks that passed, for the past: everybody reads the record every few seconds."""
    steps = (
        step if step.verdict is None else replace(step, verdict=replace(step.verdict, checks=_not_passed(step.verdict)))
        for step in rollout.steps
    )
    return replace(rollout, steps=tuple(steps))


def _not_passed(verdict: Verdict) -> tuple[Check, ...]:
    return tuple(check for check in verdict.checks if check.status != "pass")


def _open(rollouts: Rollouts, model: str) -> Rollout:
    if (rollout := rollouts.current) is None or not rollout.is_open:
        raise RolloutRefused(f"model `{model}` has no open rollout: see inflight rollout show {model}")
    return rollout


def _check(policy: RolloutPolicy, model: str) -> None:
    if policy.shadow_share <= 0 and not policy.ramp:
        raise RolloutRefused(
            f"the rollout of model `{model}` has neither shadow nor canary: set shadow_share or ramp of "
            f"[models.{model}.rollout], or promote with inflight models promote"
        )
    if list(policy.ramp) != sorted(set(policy.ramp)):
        raise RolloutRefused(
            f"ramp of [models.{model}.rollout] must grow, not {list(policy.ramp)}: set it as in [1, 5, 25, 50]"
        )
