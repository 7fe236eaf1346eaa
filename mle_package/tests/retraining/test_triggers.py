"""Triggers of retraining: what is due, what holds it back, and that no order of events trains a slot twice."""
# ruff: noqa: E501

from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from machine_learning_engineering.retraining.triggers import (
    MAX_ATTEMPTS,
    DriftSeen,
    Due,
    Facts,
    NotDue,
    QualitySeen,
    claim,
    examine,
    with_run,
)
from machine_learning_engineering.rollout.policy import RetrainingPolicy
from machine_learning_engineering.rollout.retraining import Holder, Looks, Retrainings

NOW = datetime(2026, 11, 30, 12, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HOLDER = Holder("machine", 1, 1, "token", "here")
NOTHING = Retrainings()
SECONDS = RetrainingPolicy(drift=False, quality=False, cool_down=0, daily_budget=100)


def facts(**given: Any) -> Facts:
    return Facts(**{"model": "m", "champion": "v1", "champion_at": NOW - 10 * DAY, **given})


def policy(**given: Any) -> RetrainingPolicy:
    return msgspec.structs.replace(SECONDS, **given)


def drift(p_value: float = 1e-30, since: timedelta = HOUR) -> dict[str, Any]:
    return {"drift": DriftSeen("w-1", NOW - HOUR, NOW, NOW - since, p_value, ("features.x",))}


def quality(upper: float = 0.8) -> QualitySeen:
    return QualitySeen(NOW, "r2", 0.7, upper, 0.9, 500)


def decide(rules: RetrainingPolicy, found: Facts, known: Retrainings = NOTHING, now: datetime = NOW) -> Any:
    return examine(rules, found, known, now)[0]


def done(due: Due, found: Facts, rules: RetrainingPolicy, outcome: Any, known: Retrainings = NOTHING) -> Any:
    """The record after a run that took five minutes."""
    known = claim(known, due, found, rules, HOLDER, NOW)
    run = msgspec.structs.replace(known.runs[-1], outcome=outcome, finished_at=NOW + timedelta(minutes=5))
    return with_run(known, run)


@pytest.mark.parametrize(
    ("rules", "found", "slot"),
    [
        (policy(schedule="0 3 * * *"), facts(), "schedule-20261130T030000Z"),
        (policy(max_age=4 * 86_400), facts(), "max-age-v1-2"),
        (policy(new_labels=300), facts(labels=700), "labels-v1-2"),
        (policy(drift=True), facts(labels_in_drift=200, **drift()), "drift-w-1"),
        (policy(quality=True), facts(labels=200, quality=quality()), "quality-20261130T120000000000Z"),
        (policy(quality=True, schedule="0 3 * * *"), facts(labels=200, quality=quality(0.95)), "schedule-20261130T030000Z"),
        (policy(drift=True, data=("dataset",)), facts(**drift()), "drift-w-1"),
    ],
)  # fmt: skip
def test_what_is_due(rules: RetrainingPolicy, found: Facts, slot: str) -> None:
    due = decide(rules, found)
    assert isinstance(due, Due)
    assert due.trigger.slot == slot
    assert due.trigger.reason
    assert due.trigger.evidence
    known = done(due, found, rules, "rollout")
    assert isinstance(decide(rules, found, known, NOW + HOUR), NotDue)


@pytest.mark.parametrize(
    ("rules", "found", "why"),
    [
        (policy(schedule="0 3 * * *"), Facts(model="m", champion=None), "there is no champion: inflight train m"),
        (policy(schedule="0 3 * * *"), facts(rollout="v1 to v2 (shadow)"), "a rollout is open: v1 to v2 (shadow)"),
        (policy(schedule="0 3 * * *"), facts(champion_at=NOW - HOUR), "nothing is due"),
        (policy(schedule="0 3 * * 0"), facts(), "nothing is due"),  # Missed more than a day ago.
        (policy(max_age=4 * 86_400), facts(champion_at=NOW - 3 * DAY), "nothing is due"),
        (policy(new_labels=300), facts(labels=299), "nothing is due"),
        (policy(drift=True), facts(labels_in_drift=200, **drift(p_value=1e-4)), "nothing is due"),
        (policy(drift=True), facts(labels_in_drift=199, **drift()), "but the requests have drifted since 2026-11-30T11:00:00Z, with 199 labels since then"),
        (policy(schedule="0 3 * * *"), facts(**drift()), "at least 200 are needed"),
        (policy(quality=True), facts(labels=199, quality=quality()), "nothing is due"),
        (policy(quality=True), facts(labels=500, quality=msgspec.structs.replace(quality(), rows=199)), "nothing is due"),
        (policy(drift=True), facts(unknown="no response from Kafka"), "nothing is due; no response from Kafka"),
    ],
)  # fmt: skip
def test_what_is_not_due(rules: RetrainingPolicy, found: Facts, why: str) -> None:
    import re

    decided = decide(rules, found)
    assert isinstance(decided, NotDue)
    assert (
        re.search(why.replace("(v1", r"\(v1").replace("(shadow)", r"\(shadow\)"), decided.reason)
        or why in decided.reason
    )


def test_cool_down_and_budget() -> None:
    rules = policy(schedule="* * * * *", cool_down=3_600, daily_budget=2)
    known = Retrainings()
    started = []
    for minute in range(1, 26 * 60, 7):
        now = NOW + timedelta(minutes=minute)
        decided = decide(rules, facts(), known, now)
        if isinstance(decided, Due):
            started.append(now)
            known = claim(known, decided, facts(), rules, HOLDER, now)
            run = msgspec.structs.replace(known.runs[-1], outcome="refused", finished_at=now)
            known = with_run(known, run)
    assert [now - started[0] for now in started[:2]] == [timedelta(), timedelta(minutes=63)]
    assert started[2] - started[0] >= DAY
    assert "cools down until" in decide(rules, facts(), known, started[-1] + timedelta(minutes=1)).reason
    two = msgspec.structs.replace(rules, cool_down=0)
    assert (
        "are the daily budget"
        in decide(two, facts(), msgspec.structs.replace(known, runs=known.runs[:2]), started[1] + HOUR * 2).reason
    )


def test_evidence_that_was_not_confirmed_costs_nothing() -> None:
    rules = policy(quality=True, schedule="0 3 * * *", cool_down=86_400, daily_budget=1)
    found = facts(labels=200, quality=quality())
    due = decide(rules, found)
    assert due.trigger.kind == "quality"
    assert 0 < due.trigger.significance <= rules.false_alarms_per_year
    known = done(due, found, rules, "kept")
    assert decide(rules, facts(), known).trigger.kind == "schedule"


def test_a_killed_run_is_taken_over_at_once_or_after_its_deadline() -> None:
    rules, found = policy(schedule="0 3 * * *", deadline=600), facts()
    due = decide(rules, found)
    known = claim(Retrainings(), due, found, rules, HOLDER, NOW)
    assert "runs by here, until 2026-11-30T12:10:00Z" in decide(rules, found, known).reason
    for attempt in range(2, MAX_ATTEMPTS + 1):
        again, _ = examine(rules, found, known, NOW, lambda holder: True)
        assert isinstance(again, Due)
        assert again.before == known.runs[-1]
        known = claim(known, again, found, rules, HOLDER, NOW)
        assert [(run.trigger.slot, run.attempts) for run in known.runs] == [(due.trigger.slot, attempt)]
    late = decide(rules, found, known, NOW + HOUR)
    assert isinstance(late, NotDue)
    assert late.abandoned == known.runs[-1]


def test_a_failed_run_is_tried_again_after_the_cool_down() -> None:
    rules, found = policy(schedule="0 3 * * *", cool_down=600, daily_budget=3), facts()
    known = done(decide(rules, found), found, rules, "failed")
    assert isinstance(decide(rules, found, known), NotDue)
    again = decide(rules, found, known, NOW + HOUR)
    assert again.before == known.runs[-1]
    known = claim(known, again, found, rules, HOLDER, NOW + HOUR)
    assert (len(known.runs), known.runs[-1].outcome, known.runs[-1].attempts) == (1, "running", 2)


def test_looks_at_the_quality_need_new_labels_and_spend_the_rate_of_a_year() -> None:
    rules = policy(drift=True, quality=True, false_alarms_per_year=0.1)
    found = facts(labels=250, quality=quality(1.0))
    _, looks = examine(rules, found, Retrainings(), NOW)
    assert looks == Looks(1, NOW, 250, "v1")
    known = Retrainings(looks=looks)
    assert examine(rules, msgspec.structs.replace(found, labels=449), known, NOW + DAY)[1] == looks
    more = msgspec.structs.replace(found, labels=450)
    assert examine(rules, more, known, NOW + timedelta(minutes=1))[1] == looks  # Too little has accrued.
    assert examine(rules, more, known, NOW + DAY)[1] == Looks(2, NOW + DAY, 450, "v1")
    # Of another champion, labels are counted anew; the rate is not.
    other = msgspec.structs.replace(found, champion="v2", labels=200)
    assert examine(rules, other, known, NOW + DAY)[1] == Looks(2, NOW + DAY, 200, "v2")
    spent, state = 0.0, Retrainings()
    for day in range(365):
        decided, looks = examine(rules, facts(labels=(day + 1) * 200, quality=quality()), state, NOW + day * DAY)
        assert isinstance(decided, Due)
        spent += decided.trigger.significance
        state = Retrainings(looks=looks)
    assert 0.045 < spent <= 0.05


_STEPS = st.lists(
    st.tuples(
        st.sampled_from(["examine", "finish", "fail", "kill", "drift", "label", "promote"]),
        st.integers(-3_600, 40_000),
        st.integers(0, 3),
    ),
    max_size=60,
)


@given(_STEPS, st.integers(1, 4), st.sampled_from([0, 5_000, 50_000]))
def test_no_slot_is_trained_twice_whatever_the_order_of_events_and_clocks(
    steps: list[tuple[str, int, int]], budget: int, cool_down: int
) -> None:
    """Several retrainers, whose clocks differ and jump, see old facts and the same record."""
    rules = policy(
        schedule="*/30 * * * *", drift=True, new_labels=200, max_age=86_400, daily_budget=budget, cool_down=cool_down
    )
    now, known = NOW, Retrainings()
    seen = facts()
    trained: list[str] = []
    began: list[datetime] = []
    for number, (step, seconds, stale) in enumerate(steps):
        now += timedelta(seconds=seconds)
        running = next((run for run in known.runs if run.outcome == "running"), None)
        if step == "drift":
            window = DriftSeen(f"w-{number // (stale + 1)}", now - HOUR, now, now, 0.0, ("features.x",))
            seen = msgspec.structs.replace(seen, drift=window, labels_in_drift=500)
        elif step == "label":
            seen = msgspec.structs.replace(seen, labels=max(0, seen.labels + 150 * (stale - 1)))
        elif step == "promote":
            seen = msgspec.structs.replace(seen, champion=f"v{number}", champion_at=now, labels=0)
        elif step in ("finish", "fail") and running is not None:
            outcome: Any = "failed" if step == "fail" else "rollout"
            known = with_run(known, msgspec.structs.replace(running, outcome=outcome, finished_at=now))
            trained += [running.trigger.slot] * (outcome == "rollout")
        elif step in ("examine", "kill"):
            gone = step == "kill"
            decided, looks = examine(rules, seen, known, now, lambda holder, gone=gone: gone)  # type: ignore[misc]
            known = msgspec.structs.replace(known, looks=looks)
            if isinstance(decided, Due):
                if decided.before is None:
                    assert running is None
                    began.append(now)
                    assert len([one for one in began if one > now - DAY]) <= budget
                known = claim(known, decided, seen, rules, HOLDER, now)
        assert len([run for run in known.runs if run.outcome == "running"]) <= 1
        slots = [run.trigger.slot for run in known.runs]
        assert len(slots) == len(set(slots))
        assert all(run.attempts <= MAX_ATTEMPTS for run in known.runs)
    assert len(trained) == len(set(trained))
