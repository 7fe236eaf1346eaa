"""How a rollout moves: each transition, and what holds after any sequence of verdicts and commands."""

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from machine_learning_engineering.rollout import machine
from machine_learning_engineering.rollout.machine import RolloutRefused, advance, stage_seconds
from machine_learning_engineering.rollout.policy import RolloutPolicy
from machine_learning_engineering.rollout.record import Rollout, Rollouts
from machine_learning_engineering.rollout.verdict import Check, Status, Verdict

BEGIN = datetime(2026, 3, 1, tzinfo=UTC)
POLICY = RolloutPolicy(ramp=(1, 50), max_shadow=100.0, max_canary=100.0, bake=60.0)
PASS, FAIL, WAITING = (Verdict(status, f"{status} it is") for status in ("pass", "fail", "waiting"))


WHO = {"model": "m", "now": BEGIN, "by": "ada", "reason": "so"}


def at(seconds: float) -> datetime:
    return BEGIN + timedelta(seconds=seconds)


def begin(rollouts: Rollouts | None = None, policy: RolloutPolicy = POLICY, challenger: str = "v2") -> Rollouts:
    return machine.start(
        rollouts or Rollouts(),
        model="m",
        champion="v1",
        challenger=challenger,
        policy=policy,
        now=at(0),
        by="ada",
        reason="new data",
    )


def open_one(rollouts: Rollouts) -> Rollout:
    assert rollouts.current is not None
    return rollouts.current


def test_passes_lead_from_the_shadow_over_the_ramp_to_a_confirmed_champion():
    rollouts = begin()
    for second in (1, 2, 3, 4, 64):
        rollouts = advance(rollouts, PASS, at(second))
    rollout = open_one(rollouts)
    assert [(step.action, step.stage, step.percent) for step in rollout.steps] == [
        ("started", "shadow", 0),
        ("widened", "canary", 1),
        ("widened", "canary", 50),
        ("promoted", "bake", 100),
        ("confirmed", "finished", 100),
    ]
    assert (rollout.outcome, rollout.stage_at, rollouts.barred) == ("promoted", at(64), {})
    assert [step.by for step in rollout.steps] == ["ada", *["controller"] * 4]
    assert [step.verdict for step in rollout.steps] == [None, *[PASS] * 4]


@pytest.mark.parametrize(
    ("passes", "outcome"), [(0, "refused"), (1, "rolled_back"), (2, "rolled_back"), (3, "rolled_back")]
)
def test_a_failure_ends_and_bars(passes: int, outcome: str):
    rollouts = begin()
    for second in range(passes):
        rollouts = advance(rollouts, PASS, at(second))
    rollouts = advance(rollouts, FAIL, at(9))
    rollout = open_one(rollouts)
    assert (rollout.outcome, rollout.stage, rollout.percent) == (outcome, "finished", 0)
    bar = rollouts.barred["v2"]
    assert (bar.at, bar.by, bar.reason, bar.rollout_id) == (at(9), "controller", "fail it is", rollout.rollout_id)
    with pytest.raises(RolloutRefused, match=r"inflight rollout unbar m v2"):
        begin(rollouts)
    assert open_one(begin(machine.unbar(rollouts, "v2", **WHO))).challenger == "v2"


@pytest.mark.parametrize("passes", [0, 1])
def test_without_a_verdict_it_expires_and_bars_nothing(passes: int):
    rollouts = begin()
    for _ in range(passes):
        rollouts = advance(rollouts, PASS, at(0))
    assert advance(rollouts, WAITING, at(99)) is rollouts
    ended = advance(rollouts, WAITING, at(100))
    assert (open_one(ended).outcome, ended.barred) == ("expired", {})
    assert "waiting it is" in open_one(ended).steps[-1].reason


def test_the_deadline_of_the_canary_is_one_for_all_percentages():
    rollouts = advance(begin(), PASS, at(10))
    rollouts = advance(rollouts, PASS, at(60))
    assert open_one(rollouts).percent == 50
    assert advance(rollouts, WAITING, at(109)) is rollouts
    assert open_one(advance(rollouts, WAITING, at(110))).outcome == "expired"


def test_paused_it_only_protects_and_the_pause_is_no_part_of_the_deadline():
    paused = machine.pause(begin(), model="m", now=at(50), by="ada")
    assert advance(paused, PASS, at(60)) is paused
    assert advance(paused, WAITING, at(1_000)) is paused
    assert open_one(advance(paused, FAIL, at(60))).outcome == "refused"
    resumed = machine.resume(paused, model="m", now=at(1_050), by="ada")
    assert stage_seconds(open_one(resumed), at(1_060)) == 60
    assert advance(resumed, WAITING, at(1_099)) is resumed
    assert open_one(advance(resumed, WAITING, at(1_100))).outcome == "expired"


def test_the_bake_waits_for_its_time_and_for_a_pass():
    rollouts = begin()
    for _ in range(3):
        rollouts = advance(rollouts, PASS, at(0))
    assert advance(rollouts, PASS, at(59)) is rollouts
    assert advance(rollouts, WAITING, at(10_000)) is rollouts
    assert open_one(machine.promote(rollouts, model="m", now=at(5), by="ada", reason="fine")).outcome == "promoted"
    no_bake = replace(rollouts, current=replace(open_one(rollouts), policy=replace(POLICY, bake=0.0)))
    assert open_one(advance(no_bake, WAITING, at(1))).outcome == "promoted"


def test_without_shadow_it_starts_in_the_canary_and_without_canary_it_promotes_from_the_shadow():
    assert open_one(begin(policy=replace(POLICY, shadow_share=0.0))).percent == 1
    assert open_one(advance(begin(policy=replace(POLICY, ramp=())), PASS, at(1))).stage == "bake"


@pytest.mark.parametrize("policy", [replace(POLICY, ramp=(), shadow_share=0.0), replace(POLICY, ramp=(5, 1))])
def test_a_policy_that_could_find_no_fault_or_shrinks_is_refused(policy: RolloutPolicy):
    with pytest.raises(RolloutRefused, match=r"\[models\.m\.rollout\]"):
        begin(policy=policy)


def test_commands_that_do_not_fit_are_refused_and_name_the_command():
    rollouts = begin()
    with pytest.raises(RolloutRefused, match="inflight rollout abort m"):
        begin(rollouts, challenger="v3")
    with pytest.raises(RolloutRefused, match="champion of model `m` already"):
        begin(challenger="v1")
    with pytest.raises(RolloutRefused, match="not paused"):
        machine.resume(rollouts, model="m", now=at(1), by="ada")
    with pytest.raises(RolloutRefused, match="paused already"):
        machine.pause(machine.pause(rollouts, model="m", now=at(1), by="ada"), model="m", now=at(2), by="ada")
    with pytest.raises(RolloutRefused, match="not barred"):
        machine.unbar(rollouts, "v2", **WHO)
    ended = machine.abort(rollouts, model="m", now=at(1), by="ada", reason="enough")
    for command in (machine.abort, machine.promote, machine.pause, machine.resume):
        with pytest.raises(RolloutRefused, match="no open rollout"):
            command(ended, model="m", now=at(2), by="ada", reason="again")


def test_ended_rollouts_are_kept_up_to_a_bound_each_with_its_own_salt():
    rollouts, salts = Rollouts(), set()
    for _ in range(machine.MAX_PAST + 5):
        rollouts = begin(rollouts)
        salts.add(open_one(rollouts).salt)
        rollouts = machine.abort(rollouts, model="m", now=at(1), by="ada", reason="again")
    assert (len(rollouts.past), len(salts)) == (machine.MAX_PAST, machine.MAX_PAST + 5)


def test_the_past_keeps_the_checks_that_did_not_pass():
    checks = (Check("errors", "pass", "none"), Check("latency", "fail", "too slow"))
    ended = advance(begin(), Verdict("fail", "latency", checks), at(1))
    assert open_one(ended).steps[-1].verdict == Verdict("fail", "latency", checks)
    (past,) = begin(ended, challenger="v3").past
    assert past.steps[-1].verdict == Verdict("fail", "latency", checks[1:])


_VERDICTS: dict[str, Status] = {"pass": "pass", "fail": "fail", "wait": "waiting"}
_MOVES = st.tuples(
    st.sampled_from([*_VERDICTS, "pass", "start", "pause", "resume", "promote", "abort", "unbar"]),
    st.integers(0, 80),
    st.sampled_from(["v2", "v3"]),
)


@settings(max_examples=150, deadline=None)
@given(moves=st.lists(_MOVES, max_size=40))
def test_whatever_happens_the_invariants_hold(moves: list[tuple[str, int, str]]):
    rollouts, second = Rollouts(), 0
    for move, wait, version in moves:
        second += wait
        before = rollouts
        rollouts = _after(before, move, at(second), version)
        _check_step(before, rollouts, move)
    for rollout in filter(None, (*rollouts.past, rollouts.current)):
        assert [step.number for step in rollout.steps] == list(range(1, len(rollout.steps) + 1))
        percents = [step.percent for step in rollout.steps[:-1]]
        assert percents == sorted(percents)
        ends = [step for step in rollout.steps if step.stage == "finished"]
        assert len(ends) == (not rollout.is_open)
        assert bool(rollout.outcome) == (not rollout.is_open)
        if ends:
            assert rollout.steps[-1] is ends[0]
        for step in rollout.steps:
            if step.action in ("widened", "promoted", "confirmed") and step.by == machine.CONTROLLER:
                assert step.verdict is not None
                assert step.verdict.status == "pass"
            if step.action in ("refused", "rolled_back"):
                assert step.verdict is not None
                assert step.verdict.status == "fail"


def _after(rollouts: Rollouts, move: str, now: datetime, version: str) -> Rollouts:
    if move in _VERDICTS:
        return advance(rollouts, Verdict(_VERDICTS[move], move), now)
    who = {"model": "m", "by": "ada", "reason": move, "now": now}
    try:
        match move:
            case "start":
                return machine.start(rollouts, champion="v1", challenger=version, policy=POLICY, **who)
            case "unbar":
                return machine.unbar(rollouts, version, **who)
            case _:
                return getattr(machine, move)(rollouts, **who)
    except RolloutRefused:
        return rollouts


def _check_step(before: Rollouts, after: Rollouts, move: str) -> None:
    old, new = before.current, after.current
    if old is None or new is None:
        return
    if old.rollout_id == new.rollout_id:
        assert new.steps[: len(old.steps)] == old.steps
        assert len(new.steps) - len(old.steps) <= 1
        assert (new.salt, new.champion, new.challenger) == (old.salt, old.champion, old.challenger)
        if not old.is_open:
            assert new == old
        if old.paused and move == "pass":
            assert new == old
    else:
        assert not old.is_open
        assert after.past[-1].rollout_id == old.rollout_id
        assert len(after.past[-1].steps) == len(old.steps)
        assert new.challenger not in before.barred
        assert new.salt != old.salt
