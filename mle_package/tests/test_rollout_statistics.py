"""Statistics of verdicts: martingales while nothing differs, against scipy, and false alarms under constant looking."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc, betaln

from machine_learning_engineering.evaluation.moments import Moments
from machine_learning_engineering.rollout.statistics.means import anytime_z, arms_excess, paired_excess
from machine_learning_engineering.rollout.statistics.populations import psi_between, psi_limit
from machine_learning_engineering.rollout.statistics.rates import (
    Counted,
    evidence,
    log_evidence_above,
    log_evidence_below,
    log_evidence_of_excess,
    log_evidence_of_other_share,
    log_upper_beta,
)

RATES = st.floats(0.001, 0.999)
COUNTS = st.integers(0, 3_000)


@given(x=st.floats(0.001, 0.999), a=st.floats(0.5, 3_000), b=st.floats(0.5, 3_000))
def test_the_upper_beta_function_is_that_of_scipy(x, a, b):
    upper = betainc(b, a, 1 - x)
    if upper > 1e-250:
        assert log_upper_beta(x, a, b) == pytest.approx(betaln(a, b) + math.log(upper), rel=1e-7, abs=1e-7)


@given(wins=COUNTS, losses=COUNTS, limit=RATES)
def test_a_step_at_the_limit_changes_no_expectation(wins, losses, limit):
    """At a rate of exactly the limit, the evidence is a martingale; below, it shrinks."""
    trials = wins + losses
    now = log_evidence_above(wins, trials, limit)
    won = math.exp(log_evidence_above(wins + 1, trials + 1, limit) - now)
    lost = math.exp(log_evidence_above(wins, trials + 1, limit) - now)
    assert limit * won + (1 - limit) * lost == pytest.approx(1, rel=1e-6)
    lower = limit / 2
    assert lower * won + (1 - lower) * lost <= 1 + 1e-6


@given(ours=COUNTS, theirs=COUNTS, share=RATES)
def test_a_step_of_a_right_split_changes_no_expectation(ours, theirs, share):
    now = log_evidence_of_other_share(ours, theirs, share)
    one = math.exp(log_evidence_of_other_share(ours + 1, theirs, share) - now)
    other = math.exp(log_evidence_of_other_share(ours, theirs + 1, share) - now)
    assert share * one + (1 - share) * other == pytest.approx(1, rel=1e-6)


@given(wins=COUNTS, losses=COUNTS, limit=RATES)
def test_evidence_grows_with_wins_and_shrinks_with_losses(wins, losses, limit):
    trials = wins + losses
    now = log_evidence_above(wins, trials, limit)
    assert (
        log_evidence_above(wins + 1, trials + 1, limit)
        >= now - 1e-9
        >= log_evidence_above(wins, trials + 1, limit) - 2e-9
    )
    assert log_evidence_below(losses, trials, 1 - limit) == pytest.approx(now, rel=1e-6, abs=1e-6)


@given(k=st.integers(0, 400), misses=COUNTS, other_k=st.integers(0, 400), other_misses=COUNTS, margin=st.floats(0, 0.2))
def test_there_is_no_evidence_of_an_excess_that_is_not_seen(k, misses, other_k, other_misses, margin):
    ours, other = Counted(k, k + misses), Counted(other_k, other_k + other_misses)
    found = log_evidence_of_excess(ours, other, margin)
    assert math.isfinite(found)
    if ours.rate <= other.rate + margin:
        assert found <= 1e-9
    assert found <= log_evidence_of_excess(ours, other, 0) + 1e-6
    assert 0 <= evidence(found) < math.inf


@pytest.mark.parametrize(("p", "q", "margin"), [(0.03, 0.02, 0.01), (0.3, 0.3, 0.0), (0.0, 0.0, 0.01)])
def test_evidence_of_an_excess_has_an_expectation_of_at_most_one(p, q, margin):
    """Exactly, over all outcomes of twelve and thirty requests whose rates are at the edge of the hypothesis."""
    total = 0.0
    for k in range(13):
        for other in range(31):
            chance = (
                math.comb(12, k)
                * p**k
                * (1 - p) ** (12 - k)
                * math.comb(30, other)
                * q**other
                * (1 - q) ** (30 - other)
            )
            total += chance * evidence(log_evidence_of_excess(Counted(k, 12), Counted(other, 30), margin))
    assert total <= 1 + 1e-9


NUMBERS = st.lists(st.floats(-1e6, 1e6), max_size=30)


def moments(values):
    found = Moments()
    for value in values:
        found = found.add(value)
    return found


@given(NUMBERS, NUMBERS, NUMBERS)
def test_moments_merge_in_any_order(one, two, three):
    whole, parts = moments(one + two + three), moments(three).merge(moments(one).merge(moments(two)))
    assert parts.count == whole.count
    assert parts.mean == pytest.approx(whole.mean, abs=1e-6, rel=1e-6)
    assert parts.squares == pytest.approx(whole.squares, abs=1e-2, rel=1e-6)
    if whole.count > 1:
        assert whole.variance == pytest.approx(np.var(one + two + three, ddof=1), abs=1e-2, rel=1e-6)


@given(size=st.floats(1, 1e9), alpha=st.floats(1e-6, 0.4))
def test_a_sequence_is_wider_than_one_interval(size, alpha):
    # The tail of the normal distribution beyond z is at most exp(-z^2 / 2) / 2.
    assert anytime_z(size, alpha) > 0
    assert math.exp(-(anytime_z(size, alpha) ** 2) / 2) <= 2 * alpha


def test_few_and_infinite_numbers_are_no_estimate():
    few, many = moments(range(99)), moments(range(300))
    assert paired_excess(few, many, 0.1) is None
    assert arms_excess(many, few, 0) is None
    assert arms_excess(many, Moments(300, math.nan, 1.0), 0) is None
    assert paired_excess(many, many, 0).value == pytest.approx(149.5)


def test_constant_losses_have_an_estimate_without_error():
    found = arms_excess(Moments(200, 2.0, 0.0), Moments(200, 1.0, 0.0), 0)
    assert found.lower(0.01) == found.upper(0.01) == 1


def test_small_counts_do_not_reach_the_limit_of_predictions():
    """Arms that predict alike, looked at after every tenth request of the challenger."""
    random, alarms = np.random.default_rng(1), 0
    for _ in range(100):
        champion, challenger = np.zeros(10, int), np.zeros(10, int)
        for _ in range(30):
            champion += random.multinomial(90, [0.1] * 10)
            challenger += random.multinomial(10, [0.1] * 10)
            if psi_between(champion, challenger) > psi_limit(0.25, champion, challenger, 0.05):
                alarms += 1
                break
    assert alarms <= 12  # Of 100 with a probability of 0.05: more in one of 700 runs.
    assert psi_between([0, 500], [500, 0]) > psi_limit(0.25, [0, 500], [500, 0], 0.05)
    assert psi_between([], []) is psi_between([1], [1, 2]) is psi_between([0], [3]) is None
