"""Layer one of a verdict, without labels: requests, errors, invalid answers, latency, memory, split, predictions."""

import math

from machine_learning_engineering.rollout.evidence import ArmEvidence, Evidence
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Stage
from machine_learning_engineering.rollout.statistics.populations import psi_between, psi_limit
from machine_learning_engineering.rollout.statistics.rates import (
    Counted,
    log_evidence_above,
    log_evidence_of_excess,
    log_evidence_of_other_share,
)
from machine_learning_engineering.rollout.verdict import Check, Status

_LATENCY_REQUESTS = 500
"""Requests of each arm at which a p99 is one: five are slower. Below, the limit grows as chance does."""
_MAX_DROPPED = 0.1
"""Share of the shadow that may be dropped: what is slow is not like the rest."""
_SPLIT_ALPHA = 0.001
"""A wrong split is rare and stops everything, so it needs stronger evidence, as is usual for this check."""


def check_guards(evidence: Evidence, policy: RolloutPolicy, stage: Stage, alpha: float) -> list[Check]:
    """All checks of the layer that apply.

    Args:
        evidence: With counts that agree (`judging.consistent`).
        alpha: Probability that one of the tests fails, ever, while its hypothesis holds.
    """
    ours, other = evidence.challenger, evidence.champion
    checks = [
        _requests(evidence, policy, stage),
        _dropped(evidence),
        _rate("errors", "failed", ours.errors, other.errors, ours, other, policy.max_error_rate, alpha),
        _rate("invalid", "are invalid", ours.invalid, other.invalid, ours, other, policy.max_error_rate, alpha),
        _latency(ours, other, policy.max_latency_ratio),
        _memory(ours, policy.max_memory_bytes),
        _split(evidence) if stage == "canary" else None,
        _predictions(ours, other, policy, stage, alpha),
    ]
    return [check for check in checks if check is not None]


def _requests(evidence: Evidence, policy: RolloutPolicy, stage: Stage) -> Check:
    found, needed = evidence.challenger.requests, policy.min_requests
    detail = f"{found:,} of {needed:,} requests of the challenger"
    if not found:
        detail = f"no requests yet: {detail}"
    elif stage == "canary" and not evidence.champion.requests and evidence.expected_share < 1:
        return Check("requests", "waiting", f"no requests of the champion to compare with, {found:,} of the challenger")
    return Check("requests", "pass" if found >= needed else "waiting", detail, found, needed)


def _dropped(evidence: Evidence) -> Check | None:
    pairs = evidence.pairs
    if not pairs.dropped:
        return None
    share = pairs.dropped / (pairs.dropped + pairs.pairs)
    detail = f"the challenger was too slow for {pairs.dropped:,} of {pairs.dropped + pairs.pairs:,} requests"
    return Check("dropped", "pass" if share <= _MAX_DROPPED else "waiting", detail, share, _MAX_DROPPED)


def _rate(
    name: str, verb: str, errors: int, others: int, ours: ArmEvidence, other: ArmEvidence, margin: float, alpha: float
) -> Check | None:
    """A rate against the champion's, or against the margin alone while the champion has no requests."""
    one, two = Counted(errors, ours.requests), Counted(others, other.requests)
    if not one.trials:
        return None
    found = f"{errors:,} of {one.trials:,} answers of the challenger {verb}"
    if two.trials:
        logarithm, limit = log_evidence_of_excess(one, two, margin), two.rate + margin
        found += f", {others:,} of {two.trials:,} of the champion"
    else:
        logarithm, limit = log_evidence_above(one.successes, one.trials, margin), margin
    status: Status = "pass"
    if one.rate > limit:
        status = "fail" if logarithm >= -math.log(alpha) else "waiting"
        found += f": more than {limit:.2%}" + (", which may be chance" if status == "waiting" else "")
    return Check(name, status, found, one.rate, limit)


def _latency(ours: ArmEvidence, other: ArmEvidence, limit: float) -> Check | None:
    """The ratio of p99; with few requests, a p99 is little more than the slowest of them."""
    one, two = ours.latency_p99, other.latency_p99
    if one is None or two is None or not (math.isfinite(one) and math.isfinite(two)) or two <= 0:
        return None
    ratio, widened = one / two, limit * max(1.0, _LATENCY_REQUESTS / max(1, min(ours.requests, other.requests)))
    status: Status = "pass" if ratio <= limit else "waiting" if ratio <= widened else "fail"
    detail = f"p99 of {one * 1000:.3g} ms, {ratio:.3g} times the champion's {two * 1000:.3g} ms"
    if status == "waiting":
        detail += f", of {min(ours.requests, other.requests):,} of {_LATENCY_REQUESTS:,} requests"
    return Check("latency", status, detail, ratio, limit)


def _memory(ours: ArmEvidence, limit: int) -> Check | None:
    if not limit:
        return None
    if ours.memory_bytes is None:
        return Check("memory", "waiting", "the challenger's memory is not known yet", None, limit)
    used, most = ours.memory_bytes // 1_000_000, limit // 1_000_000
    detail = f"the challenger takes {used:,} MB of at most {most:,}"
    return Check("memory", "pass" if ours.memory_bytes <= limit else "fail", detail, ours.memory_bytes, limit)


def _split(evidence: Evidence) -> Check | None:
    """Whether the arms have the share of the keys that they should; otherwise no comparison can be trusted."""
    share, ours, others = evidence.expected_share, evidence.challenger.units, evidence.champion.units
    if not 0 < share < 1 or not ours + others:
        return None
    found = ours / (ours + others)
    detail = f"{found:.2%} of {ours + others:,} keys went to the challenger, {share:.2%} should"
    wrong = log_evidence_of_other_share(ours, others, share) >= -math.log(_SPLIT_ALPHA)
    return Check(
        "split", "waiting" if wrong else "pass", detail + (": the split is wrong" if wrong else ""), found, share
    )


def _predictions(
    ours: ArmEvidence, other: ArmEvidence, policy: RolloutPolicy, stage: Stage, alpha: float
) -> Check | None:
    """Whether the arms predict alike. Where labels decide, they also say whether another prediction is a better one."""
    found = psi_between(other.predictions, ours.predictions)
    if found is None:
        return None
    limit = psi_limit(policy.max_psi, other.predictions, ours.predictions, alpha)
    detail = f"population stability index of the predictions {found:.3g}"
    if found <= limit:
        return Check("predictions", "pass", detail, found, policy.max_psi)
    if policy.min_labels:
        return Check("predictions", "pass", f"{detail}, which the labels judge", found, policy.max_psi)
    return Check("predictions", "fail", f"{detail}, more than {limit:.3g}", found, policy.max_psi)
