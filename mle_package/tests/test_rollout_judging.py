"""Verdicts: what passes, fails and waits for what; whatever the evidence is, a verdict is given."""

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from machine_learning_engineering.evaluation.moments import Moments
from machine_learning_engineering.rollout.evidence import ArmEvidence, Evidence, PairEvidence
from machine_learning_engineering.rollout.judging import judge
from machine_learning_engineering.rollout.policy import RolloutPolicy

POLICY = RolloutPolicy()
NUMBERS = st.one_of(st.floats(), st.floats(-10, 10))
COUNTS = st.one_of(st.integers(), st.integers(-2, 2_000))
MOMENTS = st.builds(Moments, COUNTS, NUMBERS, NUMBERS)
ARMS = st.builds(
    ArmEvidence,
    version=st.just("v"),
    requests=COUNTS,
    errors=COUNTS,
    invalid=COUNTS,
    latency_p99=st.none() | NUMBERS,
    memory_bytes=st.none() | COUNTS,
    predictions=st.lists(COUNTS, max_size=4).map(tuple),
    mature=COUNTS,
    labelled=COUNTS,
    loss=MOMENTS,
    units=COUNTS,
)
PAIRS = st.builds(
    PairEvidence, pairs=COUNTS, dropped=COUNTS, labelled=COUNTS, better=COUNTS, worse=COUNTS, loss=MOMENTS
)
EVIDENCE = st.builds(
    Evidence,
    champion=ARMS,
    challenger=ARMS,
    pairs=PAIRS,
    expected_share=NUMBERS,
    labels_from_the_future=COUNTS,
    labels_unknown=COUNTS,
)
POLICIES = st.builds(
    RolloutPolicy,
    min_labels=st.sampled_from([0, 200]),
    shadow_share=st.sampled_from([0.0, 1.0]),
    ramp=st.sampled_from([(), (1, 50)]),
    quality_margin=st.sampled_from([0.0, 0.1]),
    require_better=st.booleans(),
    max_memory_bytes=st.sampled_from([0, 10**9]),
)
STAGES = ("shadow", "canary", "bake", "finished")


@given(EVIDENCE, POLICIES, st.sampled_from(STAGES), NUMBERS)
@settings(max_examples=300)
def test_whatever_the_evidence_is_there_is_a_verdict(evidence, policy, stage, seconds):
    verdict = judge(evidence, policy, stage, seconds)
    found = {check.status for check in verdict.checks}
    assert verdict.reason
    assert (verdict.status == "fail") == ("fail" in found)
    if verdict.status == "pass" and stage != "bake":
        assert found == {"pass"}


def rate(ones, count):
    """Moments of losses of 0 and 1."""
    return Moments(count, ones / count, ones - ones * ones / count) if count else Moments()


def arm(requests=2_000, wrong=200, **fields):
    known = {"mature": requests, "labelled": requests, "loss": rate(wrong, requests)} | fields
    return ArmEvidence(**{"version": "v1", "requests": requests} | known)


def shadow(better, worse, labelled=2_000, wrong=200):
    difference = (worse - better) / labelled
    loss = Moments(labelled, difference, better + worse - difference**2 * labelled)
    pairs = PairEvidence(pairs=labelled, labelled=labelled, better=better, worse=worse, loss=loss)
    challenger = arm(labelled, wrong + worse - better)
    return Evidence(champion=arm(labelled, wrong), challenger=challenger, pairs=pairs)


def canary(challenger, champion=None, share=0.1):
    return Evidence(champion=champion or arm(18_000, 1_800), challenger=challenger, expected_share=share)


def check(verdict, name):
    return next(one for one in verdict.checks if one.name == name)


@pytest.mark.parametrize(
    ("better", "worse", "status"), [(100, 50, "pass"), (60, 60, "waiting"), (50, 120, "fail"), (0, 0, "waiting")]
)
def test_the_shadow_passes_what_is_better_and_fails_what_is_worse(better, worse, status):
    assert judge(shadow(better, worse), POLICY, "shadow", 400).status == status


def test_a_version_that_is_no_worse_is_enough_if_the_policy_says_so():
    tolerant = replace(POLICY, require_better=False, quality_margin=0.3)
    assert judge(shadow(60, 60, 12_000, 1_200), tolerant, "shadow", 400).status == "pass"
    assert judge(shadow(60, 60, 12_000, 1_200), POLICY, "shadow", 400).status == "waiting"
    assert judge(shadow(50, 250, 800, 80), tolerant, "shadow", 400).status == "fail"
    equal = replace(POLICY, require_better=False)
    assert judge(shadow(60, 60), equal, "shadow", 400).status == "pass"
    assert judge(shadow(60, 61), equal, "shadow", 400).status == "waiting"


def test_waiting_says_for_what_in_numbers():
    verdict = judge(shadow(30, 10, labelled=120, wrong=40), POLICY, "shadow", 100)
    assert verdict.status == "waiting"
    assert "100 of 300 s" in verdict.reason
    assert "120 of 500 requests of the challenger" in verdict.reason
    assert "120 of 200 labelled pairs" in verdict.reason


@pytest.mark.parametrize("stage", ["shadow", "canary"])
def test_no_traffic_and_no_labels_wait(stage):
    nothing = Evidence(champion=ArmEvidence(version="v1"), challenger=ArmEvidence(version="v2"))
    verdict = judge(nothing, POLICY, stage, 10**6)
    assert verdict.status == "waiting"
    assert "no requests yet: 0 of 500" in verdict.reason
    assert ("no labels yet: 0 of 200" in verdict.reason) == (stage == "shadow")


def test_a_policy_without_labels_passes_without_them():
    silent = Evidence(champion=arm(labelled=0, loss=Moments()), challenger=arm(labelled=0, loss=Moments()))
    assert judge(silent, replace(POLICY, min_labels=0), "shadow", 400).status == "pass"
    assert judge(silent, POLICY, "shadow", 400).status == "waiting"


def test_without_a_shadow_the_end_of_the_canary_decides():
    policy = replace(POLICY, shadow_share=0.0)
    evidence = canary(arm(2_000, 200), share=0.05)
    assert judge(evidence, policy, "canary", 400).status == "pass"
    assert judge(replace(evidence, expected_share=0.5), policy, "canary", 400).status == "waiting"
    better = canary(arm(9_000, 500), arm(9_000, 900), share=0.5)
    assert judge(better, policy, "canary", 400).status == "pass"


def test_labels_that_only_one_arm_gets_wait():
    one = canary(arm(2_000, labelled=0, loss=Moments()))
    verdict = judge(one, POLICY, "canary", 400)
    assert verdict.status == "waiting"
    assert "no labels reach the challenger: labels of 0 of 2,000" in verdict.reason
    uneven = canary(arm(2_000, labelled=600, loss=rate(500, 600)))
    assert judge(uneven, POLICY, "canary", 400).status == "waiting"
    assert check(judge(uneven, POLICY, "canary", 400), "coverage").status == "waiting"


def test_worse_labels_fail_in_the_canary_and_in_the_bake_time():
    worse = canary(arm(2_000, 500))
    assert judge(worse, POLICY, "canary", 400).status == "fail"
    assert judge(worse, POLICY, "bake", 400).status == "fail"


@pytest.mark.parametrize("field", ["errors", "invalid"])
def test_failures_and_invalid_answers_fail_it(field):
    many, some = arm(2_000, **{field: 200}), arm(500, 50, **{field: 8})
    assert check(judge(canary(many), POLICY, "canary", 400), field).status == "fail"
    waiting = check(judge(canary(some), POLICY, "canary", 400), field)
    assert waiting.status == "waiting"
    assert "may be chance" in waiting.detail
    # Nobody but the challenger answers in the bake time.
    alone = Evidence(champion=ArmEvidence(version="v1"), challenger=many, expected_share=1.0)
    assert judge(alone, POLICY, "bake", 10).status == "fail"


def test_slowness_and_memory_fail_it_but_few_slow_requests_do_not():
    def slow(seconds, requests):
        return canary(arm(requests, requests // 10, latency_p99=seconds), arm(18_000, 1_800, latency_p99=0.01))

    assert check(judge(slow(0.05, 2_000), POLICY, "canary", 400), "latency").status == "fail"
    assert check(judge(slow(0.05, 100), POLICY, "canary", 400), "latency").status == "waiting"
    assert check(judge(slow(0.02, 100), POLICY, "canary", 400), "latency").status == "pass"
    limited = replace(POLICY, max_memory_bytes=10**9)
    assert judge(canary(arm(memory_bytes=2 * 10**9)), limited, "canary", 400).status == "fail"
    assert check(judge(canary(arm()), limited, "canary", 400), "memory").status == "waiting"


def test_a_wrong_split_waits():
    wrong = canary(arm(units=3_000), arm(18_000, 1_800, units=17_000))
    assert "the split is wrong" in judge(wrong, POLICY, "canary", 400).reason
    right = canary(arm(units=2_000), arm(18_000, 1_800, units=18_000))
    assert check(judge(right, POLICY, "canary", 400), "split").status == "pass"


def test_other_predictions_fail_it_only_where_no_labels_judge_them():
    other = canary(arm(predictions=(900, 100)), arm(18_000, 1_800, predictions=(1_000, 9_000)))
    assert check(judge(other, POLICY, "canary", 400), "predictions").status == "pass"
    assert judge(other, replace(POLICY, min_labels=0), "canary", 400).status == "fail"


def test_losses_that_are_no_numbers_wait():
    lost = canary(arm(loss=Moments(2_000, math.nan, math.nan)))
    assert check(judge(lost, POLICY, "canary", 400), "quality").status == "waiting"


def test_the_bake_time_passes_when_it_is_over():
    quiet = Evidence(champion=ArmEvidence(version="v1"), challenger=ArmEvidence(version="v2"), expected_share=1.0)
    assert judge(quiet, POLICY, "bake", POLICY.bake - 1).status == "waiting"
    assert judge(quiet, POLICY, "bake", POLICY.bake).status == "pass"
    assert judge(quiet, POLICY, "finished", 1.0).status == "waiting"
