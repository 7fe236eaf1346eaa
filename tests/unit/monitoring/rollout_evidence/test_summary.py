"""The evidence of a stage, as records of log, shadows and labels make it."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Raw, structs

from machine_learning_engineering.drift.profile import NumericHistogram
from machine_learning_engineering.events.schemas import LabelReported, PredictionLogged, encode
from machine_learning_engineering.rollout.evidence import Evidence
from machine_learning_engineering.rollout.record import Rollout
from machine_learning_engineering.rollout.split import Splitter
from monitoring.rollout_evidence import records as rooms
from monitoring.rollout_evidence.records import Records
from monitoring.rollout_evidence.summary import summarize
from tests.support.rollout_records import (
    BAKE,
    CANARY,
    SHADOW,
    NumberLosses,
    label,
    label_record,
    logged,
    price,
    shadowed,
)

LATER = SHADOW.stage_at + timedelta(days=1)


def collected(rollout: Rollout, events: Iterable[Any], max_items: int | None = None) -> Records:
    found = Records(rollout, NumberLosses(), max_items)
    for event in events:
        if isinstance(event, PredictionLogged):
            found.log(encode(event))
        elif isinstance(event, LabelReported):
            found.label(label_record(event))
        else:
            found.shadow(encode(event))
    return found


def evidence(rollout: Rollout, events: Iterable[Any], now: datetime = LATER, **options: Any) -> Evidence:
    return summarize(collected(rollout, events, options.pop("max_items", None)), NumberLosses(), now, **options)


def policy(rollout: Rollout, **changes: Any) -> Rollout:
    return structs.replace(rollout, policy=structs.replace(rollout.policy, **changes))


def test_a_shadow_is_compared_request_by_request() -> None:
    events = [
        *(logged(SHADOW, n, answer=10.0) for n in range(4)),
        *(shadowed(SHADOW, n, 10.0, 10.0 + n) for n in range(3)),
        shadowed(SHADOW, 3, 10.0, 0.0, outcome="dropped", shadow_prediction=UNSET, shadow_seconds=UNSET),
        *(label(SHADOW, n, 11.0) for n in range(4)),
    ]
    found = evidence(SHADOW, events)
    assert (found.champion.requests, found.challenger.requests) == (4, 3)
    assert (found.champion.latency_p99, found.challenger.latency_p99) == (0.004, 0.008)
    assert (found.champion.memory_bytes, found.challenger.memory_bytes) == (None, 1_000_003)
    pairs = found.pairs
    assert (pairs.pairs, pairs.dropped, pairs.different) == (3, 1, 2)
    assert pairs.difference.mean == pytest.approx(1.0)
    # Losses of 1, 0, 1 against 1, 1, 1.
    assert (pairs.labelled, pairs.better, pairs.worse) == (3, 1, 0)
    assert pairs.loss.mean == pytest.approx(-1 / 3)
    assert (found.champion.mature, found.champion.labelled, found.champion.loss.mean) == (4, 4, 1.0)
    assert (found.challenger.labelled, found.challenger.loss.mean) == (3, pytest.approx(2 / 3))
    assert (found.champion.version, found.challenger.version, found.expected_share) == ("v1", "v2", 0.0)
    assert sum(found.champion.predictions) == 4
    assert sum(found.challenger.predictions) == 3


def test_in_the_bake_the_champion_of_before_is_the_shadow() -> None:
    events = [
        *(logged(BAKE, n, "challenger", answer=12.0) for n in range(3)),
        *(shadowed(BAKE, n, 12.0, 10.0) for n in range(3)),
        shadowed(BAKE, 3, 12.0, 0.0, outcome="failed", shadow_prediction=UNSET),
        *(label(BAKE, n, 10.0) for n in range(3)),
    ]
    found = evidence(BAKE, events)
    assert (found.challenger.requests, found.challenger.errors, found.challenger.loss.mean) == (4, 0, 2.0)
    assert (found.champion.requests, found.champion.errors, found.champion.loss.mean) == (4, 1, 0.0)
    assert (found.champion.latency_p99, found.champion.memory_bytes) == (0.008, 1_000_003)
    assert (found.pairs.pairs, found.pairs.better, found.pairs.worse, found.pairs.loss.mean) == (3, 0, 3, 2.0)


def test_a_canary_has_two_arms_and_no_pairs() -> None:
    events = [
        *(logged(CANARY, n, answer=10.0) for n in range(20)),
        *(logged(CANARY, n, "challenger", answer=11.0, score_seconds=n / 1_000) for n in range(20, 24)),
        logged(CANARY, 24, "challenger", error="prediction_error"),
        logged(CANARY, 25, "challenger", error="invalid_features"),
        logged(CANARY, 26, "challenger", answer=-1.0),
        *(label(CANARY, n, 11.0) for n in range(18, 22)),
    ]
    found = evidence(CANARY, events)
    ours = found.challenger
    assert (ours.requests, ours.errors, ours.invalid, ours.units) == (6, 1, 1, 7)
    assert (ours.mature, ours.labelled, ours.loss.mean, ours.latency_p99) == (4, 2, 0.0, 0.023)
    assert (found.champion.requests, found.champion.units, found.champion.labelled) == (20, 20, 2)
    assert (found.pairs.pairs, found.expected_share) == (0, 0.05)


def test_only_records_of_this_rollout_and_percentage_count() -> None:
    arm = logged(CANARY, 0).rollout
    assert arm is not UNSET
    events = [
        structs.replace(logged(CANARY, 0), rollout=UNSET),
        structs.replace(logged(CANARY, 1), rollout=structs.replace(arm, rollout_id="r-0")),
        structs.replace(logged(CANARY, 2), rollout=structs.replace(arm, percent=1)),
        logged(CANARY, 3, model="titanic"),
        shadowed(SHADOW, 4, 1.0, 1.0),
        label(CANARY, 3, 1.0, model="titanic"),
    ]
    found = evidence(CANARY, events)
    assert found == evidence(CANARY, [])
    assert evidence(SHADOW, [shadowed(BAKE, 1, 1.0, 1.0)]) == evidence(SHADOW, [])


def test_what_the_split_divides_is_counted_once() -> None:
    keyed = policy(CANARY, key="customer.id")

    def of(customer: str, number: int, arm: str = "champion") -> PredictionLogged:
        return logged(keyed, number, arm, features=Raw(b'{"customer":{"id":"%b"}}' % customer.encode()))

    events = [*(of("a", n) for n in range(9)), of("b", 9), of("c", 10, "challenger")]
    # Without the field, which is redacted here: nothing can be said of them.
    events += [logged(keyed, n) for n in range(11, 20)]
    found = evidence(keyed, events)
    assert (found.champion.units, found.challenger.units) == (2, 1)
    by_key = Records(CANARY, NumberLosses())
    for number in range(6):
        by_key.log(encode(logged(CANARY, number)), b"customer")
    assert summarize(by_key, NumberLosses(), LATER).champion.units == 1


def test_the_warm_up_of_the_challenger_counts_for_nothing_but_the_split() -> None:
    warm = policy(CANARY, warm_up_requests=2)
    slow = [logged(warm, n, "challenger", score_seconds=9.0) for n in (3, 6)]
    champion = [logged(warm, n) for n in (0, 1, 2, 4, 5, 7, 8)]
    assert evidence(warm, champion + slow[:1]).champion.requests == 0
    found = evidence(warm, [*champion, *slow, logged(warm, 9, "challenger")])
    assert (found.champion.requests, found.challenger.requests) == (2, 1)
    assert (found.champion.units, found.challenger.units) == (7, 3)
    assert found.challenger.latency_p99 == 0.004


def test_labels_count_once_they_are_due_and_only_if_they_can_be_true() -> None:
    delayed = policy(SHADOW, label_delay=3_600.0)
    events: list[Any] = [shadowed(delayed, n, 10.0, 10.0) for n in (0, 1_000, 2_000, 3_000)]
    events += [label(delayed, 0, 10.0), label(delayed, 1_000, 10.0)]
    early = evidence(delayed, events, delayed.stage_at + timedelta(seconds=3_600))
    assert (early.challenger.mature, early.challenger.labelled, early.pairs.labelled) == (1, 1, 1)
    late = evidence(delayed, events, delayed.stage_at + timedelta(seconds=6_000))
    assert (late.challenger.mature, late.challenger.labelled, late.pairs.labelled) == (3, 2, 2)
    # Observed before the request, or long after now, or after it was written; for no request of the stage; no number.
    odd = [
        label(delayed, 2_000, 10.0, after=-1.0),
        label(delayed, 3_000, 10.0, after=90_000.0 * 30),
        label(delayed, 77, 10.0),
        label(delayed, 0, "ten", after=3.0),
    ]
    written_early = label_record(label(delayed, 1_000, 99.0, after=86_400.0), delayed.stage_at)
    records = collected(delayed, events + odd)
    records.label(written_early)
    records.label(label_record(label(delayed, 1_000, 99.0, after=86_400.0, model="titanic"), delayed.stage_at))
    found = summarize(records, NumberLosses(), delayed.stage_at + timedelta(days=1))
    assert (found.labels_from_the_future, found.labels_unknown) == (3, 1)
    # The label observed last counts, and the text is not one of the model's.
    assert (found.challenger.labelled, found.challenger.loss.mean) == (2, 0.0)
    replaced = evidence(delayed, [*events, label(delayed, 0, "ten", after=61.0)])
    assert replaced.challenger.labelled == 1


def test_a_flood_of_labels_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rooms, "MAX_EARLY", 50)
    flood = [label(SHADOW, n, 1.0) for n in range(1_000, 1_200)]
    records = collected(SHADOW, [label(SHADOW, 0, 2.0), *flood, label(SHADOW, 1, 2.0), shadowed(SHADOW, 1, 1.0, 2.0)])
    assert len(records.early) == 50 - 1
    found = summarize(records, NumberLosses(), LATER)
    assert (found.labels_unknown, found.pairs.better) == (201, 1)
    monkeypatch.setattr(rooms, "MAX_EARLY_BYTES", 1_000)
    assert len(collected(SHADOW, [label(SHADOW, n, "x" * 300) for n in range(20)]).early) == 3


def test_at_high_rates_a_sample_is_kept_of_each_arm() -> None:
    splitter = Splitter(CANARY.salt)
    arms = {n: "challenger" if splitter.is_challenger(b"q-%d" % n, 5) else "champion" for n in range(4_000)}
    events: list[Any] = [logged(CANARY, n, arm, answer=float(n % 7)) for n, arm in arms.items()]
    events += [label(CANARY, n, 1.0) for n in arms]
    ours = list(arms.values()).count("challenger")
    found = evidence(CANARY, events, max_items=400)
    assert (found.challenger.requests, found.challenger.share, found.challenger.labelled) == (ours, 1.0, ours)
    assert found.champion.share == 0.0625
    assert 190 < found.champion.requests <= 400
    assert found.champion.labelled == found.champion.requests
    assert found.labels_unknown == 0
    # The split is seen in a sample that both arms share.
    assert found.champion.units + found.challenger.units <= 400
    assert 0 < found.challenger.units < 40


def test_predictions_are_counted_in_the_bins_of_the_profile() -> None:
    histogram = NumericHistogram(10, 0, 0, 0.0, 9.0, [1.0, 5.0, 9.0], [0, 5, 5, 0])
    events = [logged(CANARY, n, answer=float(n)) for n in range(10)]
    events += [logged(CANARY, n, "challenger", answer=6.0) for n in range(10, 13)]
    found = evidence(CANARY, events, profile={"price": histogram})
    assert (found.champion.predictions, found.challenger.predictions) == ((1, 4, 4, 1), (0, 0, 3, 0))
    found = evidence(CANARY, events)
    assert len(found.champion.predictions) == 10
    assert found.challenger.predictions == (0, 0, 0, 0, 0, 0, 3, 0, 0, 0)


def test_repeats_and_order_make_no_difference() -> None:
    """Shown by many small streams: any interleaving of the topics, and any record read twice."""

    @given(st.data())
    def check(data: st.DataObject) -> None:
        numbers = data.draw(st.lists(st.integers(0, 40), max_size=40))
        events: list[Any] = []
        for number in numbers:
            kind = data.draw(st.sampled_from(["log", "failed", "shadow", "dropped", "label", "again"]))
            value = float(data.draw(st.integers(0, 5)))
            if kind == "log":
                events.append(logged(SHADOW, number, answer=3.0))
            elif kind == "failed":
                events.append(logged(SHADOW, number, error="prediction_error", offset=number + 100))
            elif kind == "shadow":
                events.append(shadowed(SHADOW, number, 3.0, value))
            elif kind == "dropped":
                events.append(shadowed(SHADOW, number, 3.0, value, outcome="dropped", offset=number + 200))
            else:
                events.append(label(SHADOW, number, value, after=60.0 if kind == "label" else 61.0))
        limit = data.draw(st.sampled_from([4, 1_000]))
        expected = evidence(SHADOW, events, max_items=limit)
        mixed = data.draw(
            st.permutations(events + data.draw(st.lists(st.sampled_from(events), max_size=9)) if events else [])
        )
        assert evidence(SHADOW, mixed, max_items=limit) == expected

    check()


def test_what_is_no_record_of_ours_is_counted_and_left_out() -> None:
    records = Records(SHADOW, NumberLosses())
    for value in (b'{"r-1"', b'"r-1"', b"r-1\xff", b'{"type":"prediction.logged.v1","x":"r-1"}'):
        records.log(value)
        records.shadow(value)
    records.log(b"\xff")
    assert records.unreadable == 8
    records.shadow(encode(shadowed(SHADOW, 1, 1.0, 1.0, shadow_prediction=price(None))))
    found = summarize(records, NumberLosses(), LATER)
    assert (found.challenger.requests, found.challenger.invalid, found.pairs.pairs) == (1, 1, 1)
