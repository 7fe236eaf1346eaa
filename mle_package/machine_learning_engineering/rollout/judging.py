"""The verdict of a stage, from its evidence: `pass`, `fail` or `waiting`, at any time and as often as anybody looks.

Two error probabilities are kept apart. *Passing* needs every check at once, so the one test that shows the challenger
to be better has the policy's whole alpha (an intersection-union test: R. Berger, Technometrics 24, 1982). *Failing*
needs one check alone, so alpha is shared out equally over the tests that may fail and over the stages that a rollout
has: the probability that a challenger which is no worse is ever refused or rolled back by them is at most alpha for the
whole rollout. Limits of latency and memory are no tests and have no alpha.
"""

import math

from msgspec.structs import replace

from machine_learning_engineering.evaluation.moments import Moments
from machine_learning_engineering.rollout.evidence import ArmEvidence, Evidence, PairEvidence
from machine_learning_engineering.rollout.guards import check_guards
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.quality import Risks, check_labels
from machine_learning_engineering.rollout.record import Stage
from machine_learning_engineering.rollout.verdict import Check, Verdict

TESTS = 4
"""Tests that may fail a challenger: errors, invalid answers, predictions, quality."""
_MOST = 2**53
"""Counts above it are no counts."""


def judge(evidence: Evidence, policy: RolloutPolicy, stage: Stage, seconds: float) -> Verdict:
    """What the evidence of a stage says now. It never raises, whatever the numbers are.

    In the shadow and the canary, `pass` allows the next step. In the bake time, `fail` asks for the rollback, and
    `pass` says that it is over without one: waiting for traffic or labels does not prolong it.

    Args:
        evidence: Of the stage, or of the percentage within the canary, since it began.
        seconds: Since then.
    """
    if stage == "finished":
        return Verdict("waiting", "the rollout is finished")
    evidence = consistent(evidence)
    alpha = failing_alpha(policy)
    checks = [
        _time(policy, stage, seconds),
        *check_guards(evidence, policy, stage, alpha),
        *check_labels(evidence, policy, stage, Risks(policy.alpha, alpha)),
    ]
    failed = [check for check in checks if check.status == "fail"]
    if failed:
        return Verdict("fail", _reason(failed), tuple(checks))
    waiting = [check for check in checks if check.status == "waiting" and (stage != "bake" or check.name == "time")]
    if waiting:
        return Verdict("waiting", _reason(waiting), tuple(checks))
    return Verdict("pass", _passed(checks, stage), tuple(checks))


def failing_alpha(policy: RolloutPolicy) -> float:
    """Alpha of each test that may fail, in each stage."""
    stages = (policy.shadow_share > 0) + len(policy.ramp) + 1
    return policy.alpha / (TESTS * stages)


def consistent(evidence: Evidence) -> Evidence:
    """The evidence with counts that agree, such as no more errors than requests, so that tests may rely on it."""
    share = evidence.expected_share
    return replace(
        evidence,
        champion=_arm(evidence.champion),
        challenger=_arm(evidence.challenger),
        pairs=_pairs(evidence.pairs),
        expected_share=share if math.isfinite(share) else 0.0,
        labels_from_the_future=_count(evidence.labels_from_the_future),
        labels_unknown=_count(evidence.labels_unknown),
    )


def _arm(arm: ArmEvidence) -> ArmEvidence:
    requests, mature = _count(arm.requests), _count(arm.mature)
    return replace(
        arm,
        requests=requests,
        errors=_count(arm.errors, requests),
        invalid=_count(arm.invalid, requests),
        predictions=tuple(map(_count, arm.predictions)),
        mature=mature,
        labelled=_count(arm.labelled, mature),
        loss=_moments(arm.loss),
        units=_count(arm.units),
    )


def _pairs(pairs: PairEvidence) -> PairEvidence:
    labelled = _count(pairs.labelled)
    better = _count(pairs.better, labelled)
    return replace(
        pairs,
        pairs=_count(pairs.pairs),
        dropped=_count(pairs.dropped),
        labelled=labelled,
        better=better,
        worse=_count(pairs.worse, labelled - better),
        loss=_moments(pairs.loss),
    )


def _count(count: int, most: int = _MOST) -> int:
    return max(0, min(count, most))


def _moments(moments: Moments) -> Moments:
    """Numbers so large that their squares overflow are as good as infinite."""
    too_large = abs(moments.mean) > 1e100 or abs(moments.squares) > 1e200
    return Moments(_count(moments.count), math.inf if too_large else moments.mean, moments.squares)


def _time(policy: RolloutPolicy, stage: Stage, seconds: float) -> Check:
    needed = policy.bake if stage == "bake" else policy.min_step
    what = "bake time" if stage == "bake" else "shortest step"
    over = seconds >= needed
    detail = f"{max(0.0, seconds):,.0f} of {needed:,.0f} s of the {what}" if math.isfinite(seconds) else "no clock"
    return Check("time", "pass" if over else "waiting", detail, seconds if math.isfinite(seconds) else None, needed)


def _reason(checks: list[Check]) -> str:
    return "; ".join(check.detail for check in checks)


def _passed(checks: list[Check], stage: Stage) -> str:
    told = [check for check in checks if check.name in ("requests", "quality")]
    if stage == "bake":
        return f"the bake time is over and no check failed: {_reason(told)}"
    return f"all {len(checks)} checks passed: {_reason(told)}"
