"""Layer two of a verdict: labels. Pairs of the same request in the shadow, two arms in the canary and the bake time."""

import math
from typing import NamedTuple

from machine_learning_engineering.evaluation.moments import Moments
from machine_learning_engineering.rollout.evidence import ArmEvidence, Evidence, PairEvidence
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Stage
from machine_learning_engineering.rollout.statistics.means import Estimate, arms_excess, is_finite, paired_excess
from machine_learning_engineering.rollout.statistics.rates import (
    Counted,
    log_evidence_above,
    log_evidence_of_excess,
)
from machine_learning_engineering.rollout.verdict import Check

_MIN_DIFFERENT = 50
"""Pairs with different losses before a mean of differences is trusted: the others say nothing of its variance."""


class Risks(NamedTuple):
    """Probabilities of a wrong pass and of a wrong failure, however often anybody looks."""

    passing: float
    failing: float


class _Findings(NamedTuple):
    """What labels show. `excess` is the challenger's mean loss minus the champion's."""

    better: bool
    no_worse: bool
    worse: bool
    excess: float
    champion: float


def check_labels(evidence: Evidence, policy: RolloutPolicy, stage: Stage, risks: Risks) -> list[Check]:
    """Coverage by labels, labels that are left out, and quality.

    Args:
        evidence: With counts that agree (`judging.consistent`).
    """
    coverage = _coverage(evidence, policy, stage)
    checks = [coverage, _left_out(evidence)]
    if coverage is not None and coverage.status == "waiting":
        checks.append(None if not _needed(evidence, policy, stage) else _too_early(evidence, policy, stage))
    else:
        checks.append(_quality(evidence, policy, stage, risks))
    return [check for check in checks if check is not None]


def _coverage(evidence: Evidence, policy: RolloutPolicy, stage: Stage) -> Check | None:
    """Whether labels reach both arms alike. If not, those that arrive are no sample of all."""
    ours, other = evidence.challenger, evidence.champion
    found = [arm.labelled / arm.mature for arm in (ours, other) if arm.mature]
    if not found or (not any(found) and not policy.min_coverage):
        return None
    detail = f"labels of {_share(ours)} of the challenger's requests and {_share(other)} of the champion's"
    gap, least = max(found) - min(found), min(found)
    if stage != "shadow" and len(found) == 2 and not least:
        missing = "challenger" if not ours.labelled else "champion"
        return Check("coverage", "waiting", f"no labels reach the {missing}: {detail}", gap, policy.max_coverage_gap)
    if stage != "shadow" and len(found) == 2 and gap > policy.max_coverage_gap:
        text = f"{detail} differ by more than {policy.max_coverage_gap:.0%}"
        return Check("coverage", "waiting", text, gap, policy.max_coverage_gap)
    if least < policy.min_coverage:
        return Check("coverage", "waiting", f"{detail}; {policy.min_coverage:.0%} needed", least, policy.min_coverage)
    return Check("coverage", "pass", detail, least, policy.min_coverage)


def _share(arm: ArmEvidence) -> str:
    return f"{arm.labelled:,} of {arm.mature:,}"


def _left_out(evidence: Evidence) -> Check | None:
    future, unknown = evidence.labels_from_the_future, evidence.labels_unknown
    if not future and not unknown:
        return None
    detail = f"left out: {future:,} labels from the future, {unknown:,} of requests that nobody knows"
    return Check("labels", "pass", detail, future + unknown)


def _needed(evidence: Evidence, policy: RolloutPolicy, stage: Stage) -> bool:
    """Whether this is where labels have to decide: in the shadow, and without one at the end of the canary."""
    if not policy.min_labels:
        return False
    if stage == "canary":
        return not policy.shadow_share and evidence.expected_share * 100 >= max(policy.ramp, default=0)
    return stage == "shadow"


def _labels(evidence: Evidence, stage: Stage) -> int:
    if stage == "shadow":
        return evidence.pairs.labelled
    return min(evidence.challenger.labelled, evidence.champion.labelled)


def _too_early(evidence: Evidence, policy: RolloutPolicy, stage: Stage) -> Check:
    found = _labels(evidence, stage)
    unit = "labelled pairs" if stage == "shadow" else "labels in each arm"
    detail = f"{'' if found else 'no labels yet: '}{found:,} of {policy.min_labels:,} {unit}"
    return Check("quality", "waiting", detail)


def _quality(evidence: Evidence, policy: RolloutPolicy, stage: Stage, risks: Risks) -> Check | None:
    needed = _needed(evidence, policy, stage)
    labels = _labels(evidence, stage)
    if not labels:
        return _too_early(evidence, policy, stage) if needed else None
    ours, other = evidence.challenger.loss, evidence.champion.loss
    if not all(map(is_finite, (evidence.pairs.loss, ours, other))):
        return Check("quality", "waiting", "a loss is not a finite number: no mean can be compared")
    margin = policy.quality_margin
    found = _of_pairs(evidence, margin, risks) if stage == "shadow" else _of_arms(ours, other, margin, risks)
    limit = margin * found.champion
    text = (
        f"loss {abs(found.excess):.4g} {'above' if found.excess > 0 else 'below'} the champion's {found.champion:.4g}"
    )
    detail = f"{text}, of {labels:,} {'labelled pairs' if stage == 'shadow' else 'labels in the smaller arm'}"
    if found.worse:
        return Check("quality", "fail", f"worse: {detail}", found.excess, limit)
    if not needed:
        return Check("quality", "pass", f"not shown to be worse: {detail}", found.excess, limit)
    if labels < policy.min_labels:
        return _too_early(evidence, policy, stage)
    if policy.require_better:
        status, word = ("pass", "better") if found.better else ("waiting", "not yet shown to be better")
    elif not margin:  # No number of labels shows that two losses are equal.
        status, word = ("pass", "no worse") if found.excess <= 0 else ("waiting", "worse, which may be chance")
    else:
        status, word = ("pass", "no worse") if found.no_worse else ("waiting", "not yet shown to be no worse")
    return Check("quality", "pass" if status == "pass" else "waiting", f"{word}: {detail}", found.excess, limit)


def _of_pairs(evidence: Evidence, margin: float, risks: Risks) -> _Findings:
    """Pairs. If losses are 0 or 1, who wins the pairs that differ says everything, and the test is exact."""
    pairs, champion = evidence.pairs, evidence.champion.loss
    if _are_zero_or_one(pairs):
        different = pairs.better + pairs.worse
        better = log_evidence_above(pairs.better, different, 0.5) >= -math.log(risks.passing)
        worse = log_evidence_above(pairs.worse, different, 0.5) >= -math.log(risks.failing)
        found = _Findings(better, better, worse, pairs.loss.mean, champion.mean)
        if margin:
            arms = _of_arms(evidence.challenger.loss, champion, margin, risks)
            found = found._replace(no_worse=arms.no_worse, worse=arms.worse)
        return found
    if pairs.better + pairs.worse < _MIN_DIFFERENT:
        return _Findings(False, False, False, pairs.loss.mean, champion.mean)
    equal, allowed = paired_excess(pairs.loss, champion, 0), paired_excess(pairs.loss, champion, margin)
    return _from_estimates(equal, allowed, risks, pairs.loss.mean, champion.mean)


def _of_arms(ours: Moments, other: Moments, margin: float, risks: Risks) -> _Findings:
    """Arms. Losses of 0 and 1 are rates, and the test is exact."""
    excess = ours.mean - other.mean
    one, two = _as_rate(ours), _as_rate(other)
    if one is None or two is None:
        equal, allowed = arms_excess(ours, other, 0), arms_excess(ours, other, margin)
        return _from_estimates(equal, allowed, risks, excess, other.mean)
    passing, failing = -math.log(risks.passing), -math.log(risks.failing)
    return _Findings(
        better=log_evidence_of_excess(two, one) >= passing,
        no_worse=log_evidence_of_excess(two, one, ratio=1 / (1 + margin)) >= passing,
        worse=log_evidence_of_excess(one, two, ratio=1 + margin) >= failing,
        excess=excess,
        champion=other.mean,
    )


def _from_estimates(
    equal: Estimate | None, allowed: Estimate | None, risks: Risks, excess: float, champion: float
) -> _Findings:
    return _Findings(
        better=equal is not None and equal.upper(risks.passing) < 0,
        no_worse=allowed is not None and allowed.upper(risks.passing) < 0,
        worse=allowed is not None and allowed.lower(risks.failing) > 0,
        excess=excess,
        champion=champion,
    )


def _are_zero_or_one(pairs: PairEvidence) -> bool:
    """Whether all losses are 0 or 1, as the sums of their differences and of the squares tell."""
    loss, slack = pairs.loss, 1e-6 * max(1, pairs.loss.count)
    total, squares = loss.mean * loss.count, loss.squares + loss.mean**2 * loss.count
    return abs(total - (pairs.worse - pairs.better)) < slack and abs(squares - (pairs.worse + pairs.better)) < slack


def _as_rate(loss: Moments) -> Counted | None:
    """The count of ones, if all numbers are 0 or 1: then their sum is a whole number and that of the squares too."""
    total, slack = loss.mean * loss.count, 1e-6 * max(1, loss.count)
    whole = round(total) if abs(total) < 2**53 else -1
    squares = loss.squares + loss.mean * total
    if not 0 <= whole <= loss.count or abs(total - whole) > slack or abs(squares - whole) > slack:
        return None
    return Counted(whole, loss.count)
