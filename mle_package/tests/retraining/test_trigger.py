"""`trigger_retraining` retrains for a reason only, and promotes only what is better, if it was asked to."""

import json
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from machine_learning_engineering.core.candidate import Candidate
from machine_learning_engineering.prediction_log.store import PredictionRecord
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.uri import CHAMPION
from machine_learning_engineering.retraining.decision import Decision
from machine_learning_engineering.retraining.trigger import SIGNIFICANCE
from machine_learning_engineering.training import promotion
from machine_learning_engineering.training.quick import train
from machine_learning_engineering.training.records import limit_sources


def state(registry):
    return registry.aliases("doubler")[CHAMPION], registry.versions("doubler")


def test_live_rows_that_are_as_good_keep_the_champion(registry, serve, log, doubler_class, settings):
    labels = serve(500, seed=2)
    decision = doubler_class.trigger_retraining(log, labels, settings=settings)
    assert (decision.outcome, decision.champion, decision.error) == ("kept", "v1", "")
    assert "is not significantly lower than" in decision.reason
    assert (decision.evidence.rows, decision.evidence.labelled) == (500, 500)
    assert decision.evidence.metric.rows == 500
    assert decision.evidence.recorded_metric == registry.manifest("doubler", "v1").metrics["r2"]
    assert state(registry) == ("v1", ["v1"])


def test_a_better_challenger_waits_for_a_person(outgrown, log, tree_class, settings):
    labels, fresh = outgrown
    registry = Registry(settings.registry_dir)
    decision = tree_class.trigger_retraining(log, labels, settings=settings, examples=fresh)
    assert (decision.outcome, decision.champion, decision.challenger) == ("challenger", "v1", "v2"), decision.reason
    assert decision.evidence.metric.observed < decision.evidence.metric.reference
    assert decision.evidence.metric.p_value <= decision.significance == SIGNIFICANCE
    assert decision.gate.observed > decision.gate.reference
    assert decision.gate.p_value <= promotion.SIGNIFICANCE
    assert (decision.held_out_gate.significant, decision.trained_on) == (False, {"examples": 6_000})
    assert "It waits for a person: inflight models promote doubler:v2" in decision.reason
    assert registry.aliases("doubler") == {"champion": "v1", "challenger": "v2"}
    registry.promote("doubler", "v2")
    # What the new champion answers is judged by its own record, not by its predecessor's.
    after = tree_class.trigger_retraining(log, labels, settings=settings)
    assert (after.outcome, after.champion, after.evidence.rows) == ("kept", "v2", 0)


@pytest.mark.parametrize("asked", ["option", "setting"])
def test_a_better_challenger_is_promoted_if_that_is_asked_for(outgrown, log, tree_class, settings, asked):
    labels, fresh = outgrown
    registry = Registry(settings.registry_dir)
    options = {"promote": True} if asked == "option" else {}
    settings = settings.model_copy(update={"retrain_promote": asked == "setting"})
    decision = tree_class.trigger_retraining(log, labels, settings=settings, examples=fresh, **options)
    assert (decision.outcome, decision.challenger) == ("promoted", "v2"), decision.reason
    assert state(registry) == ("v2", ["v1", "v2"])
    assert registry.aliases("doubler") == {"champion": "v2"}
    assert registry.manifest("doubler", "v2").lineage.parent == "v1"
    assert "better than" in registry.history("doubler")[-1].reason
    model = registry.open("doubler", model_class=tree_class)
    (answer,) = model.predict([model.decode(b'{"number":40}')])
    assert answer.double == pytest.approx(80, abs=6)


def test_the_option_comes_before_the_setting(outgrown, log, tree_class, settings):
    labels, fresh = outgrown
    settings = settings.model_copy(update={"retrain_promote": True})
    decision = tree_class.trigger_retraining(log, labels, settings=settings, examples=fresh, promote=False)
    assert (decision.outcome, Registry(settings.registry_dir).champions()) == ("challenger", {"doubler": "v1"})


@pytest.mark.parametrize("promote", [True, False])
def test_labels_of_another_world_promote_nothing(registry, serve, log, doubler_class, settings, promote):
    """Whoever may report labels could have made them up: by them the challenger is the better, and it is useless."""
    labels = serve(600, seed=2, factor=-2.0)
    decision = doubler_class.trigger_retraining(log, labels, settings=settings, promote=promote)
    assert (decision.outcome, decision.challenger) == ("rejected", "v2")
    assert decision.gate.significant
    assert decision.held_out_gate.significant
    assert decision.held_out_gate.observed > 0.9 > 0 > decision.held_out_gate.reference
    assert "but worse on the" in decision.reason
    assert "inflight models promote doubler:v2" in decision.reason
    assert registry.aliases("doubler") == {"champion": "v1", "challenger": "v2"}


def test_labels_tell_who_reported_them_and_one_source_may_be_limited(registry, log, doubler_class, settings, some):
    """Ten honest shops report a few labels each, one attacker reports most of them."""
    model = registry.open("doubler", model_class=doubler_class)

    def reported(source, examples):
        predictions = model.predict([model.decode(msgspec.json.encode(one.features)) for one in examples])
        for number, (example, prediction) in enumerate(zip(examples, predictions, strict=True)):
            yield PredictionRecord(
                request_id=f"{source}-{number}",
                model="doubler",
                model_version="v1",
                outcome="completed",
                features=msgspec.Raw(msgspec.json.encode(example.features)),
                prediction=msgspec.Raw(msgspec.json.encode(prediction)),
                label=msgspec.Raw(msgspec.json.encode(example.label)),
                label_source=source,
                created_at=datetime(2026, 1, 1, tzinfo=UTC) + timedelta(seconds=number),
                score_seconds=0.0,
                batch_size=1,
            )

    records = [record for shop in range(10) for record in reported(f"/shop/{shop}", some(30, seed=shop))]
    records += reported("/attacker", some(900, seed=99, factor=-2.0))
    sources = {f"/shop/{shop}": 30 for shop in range(10)}

    class Log:
        def read(self, model, **options):
            return iter(records)

    free = doubler_class.trigger_retraining(Log(), settings=settings)
    assert free.evidence.label_sources == free.trained_on == sources | {"/attacker": 900}
    limited = doubler_class.trigger_retraining(Log(), settings=settings, max_source_share=0.1, min_labelled=30)
    assert limited.trained_on == sources | {"/attacker": 33}
    assert limited.evidence.label_sources == sources | {"/attacker": 900}
    few = doubler_class.trigger_retraining(Log(), settings=settings, max_source_share=0.01, promote=True)
    assert (few.outcome, few.challenger) == ("retraining_due", None)
    assert "were left out, because one source may have 1%" in few.reason


@pytest.mark.parametrize(
    ("counts", "share", "expected"),
    [
        ({"a": 10}, 1.0, {"a": 10}),
        ({"a": 10}, 0.5, {}),
        ({"a": 10, "b": 3}, 0.5, {"a": 3, "b": 3}),
        ({"a": 100, "b": 10, "c": 10}, 0.5, {"a": 20, "b": 10, "c": 10}),
        ({"a": 100, "b": 90, "c": 10}, 0.4, {"a": 20, "b": 20, "c": 10}),
        ({"a": 5, "b": 5, "c": 5}, 0.4, {"a": 5, "b": 5, "c": 5}),
        ({}, 0.5, {}),
    ],
)
def test_the_newest_rows_of_a_source_are_kept_up_to_its_share(counts, share, expected):
    rows = [(source, number) for source, count in counts.items() for number in range(count)]
    kept = [rows[index] for index in limit_sources([source for source, _ in rows], share)]
    assert Counter(source for source, _ in kept) == expected
    assert all(count <= share * len(kept) for count in expected.values())
    for source, count in expected.items():
        assert [number for one, number in kept if one == source] == list(range(counts[source]))[-count:]


def test_labels_in_the_log_count_and_given_ones_override_them(registry, serve, log, doubler_class, settings):
    labels = serve(300, seed=2, factor=3.0)
    for request_id, label in labels.items():
        log.label(request_id, label)
    right = {request_id: label * 2 / 3 for request_id, label in labels.items()}
    wrong = doubler_class.trigger_retraining(log, settings=settings, dry_run=True)
    overridden = doubler_class.trigger_retraining(log, right, settings=settings, dry_run=True)
    assert (wrong.outcome, overridden.outcome) == ("retraining_due", "kept")


def test_the_challenger_is_of_the_champions_kind(some, registry, serve, log, doubler_class, settings, monkeypatch):
    made = []

    def make(params, seed):
        made.append(dict(params))
        return doubler_class().new_estimator(seed)

    kind = Candidate("line", make, {"a": 1, "b": 1})
    monkeypatch.setattr(doubler_class, "candidates", lambda self: [kind])
    train(doubler_class, settings, examples=some(1_000, seed=8), candidate=kind, params={"b": 2}, promote=False)
    registry.promote("doubler", "v2")
    decision = doubler_class.trigger_retraining(log, serve(600, seed=2, factor=3.0), settings=settings)
    assert (decision.outcome, decision.challenger) == ("rejected", "v3")
    assert made == [{"a": 1, "b": 2}] * 2
    manifest = registry.manifest("doubler", "v3")
    assert (manifest.params["candidate"], manifest.params["params"]) == ("line", {"b": 2})
    assert manifest.lineage.training_run == decision.decision_id


def test_a_dry_run_says_that_it_is_due_and_changes_nothing(registry, serve, log, doubler_class, settings):
    labels = serve(300, seed=2, factor=3.0)
    decision = doubler_class.trigger_retraining(log, labels, settings=settings, dry_run=True)
    assert (decision.outcome, decision.challenger, decision.gate) == ("retraining_due", None, None)
    assert state(registry) == ("v1", ["v1"])


def test_drifted_inputs_without_labels_are_due_and_say_what_is_needed(registry, serve, log, doubler_class, settings):
    serve(600, seed=2, scale=2.0)
    decision = doubler_class.trigger_retraining(log, settings=settings)
    assert decision.outcome == "retraining_due"
    assert decision.evidence.drift.drifted == ["features.number", "predictions.double"]
    assert "report more labels or give examples" in decision.reason
    assert state(registry) == ("v1", ["v1"])


def test_drifted_inputs_with_examples_retrain_on_them(outgrown, log, tree_class, settings):
    decision = tree_class.trigger_retraining(log, settings=settings, examples=outgrown[1], promote=True)
    assert "drifted: features.number" in decision.reason
    assert (decision.outcome, state(Registry(settings.registry_dir))) == ("promoted", ("v2", ["v1", "v2"]))


def test_undisturbed_inputs_without_labels_keep_the_champion(registry, serve, log, doubler_class, settings):
    serve(600, seed=2)
    decision = doubler_class.trigger_retraining(log, {}, settings=settings)
    assert (decision.outcome, decision.evidence.drift.drifted) == ("kept", [])
    assert "no drift in 600 rows" in decision.reason


def test_too_few_rows_and_labels_decide_nothing(registry, serve, log, doubler_class, settings):
    labels = serve(199, seed=2, factor=3.0, scale=2.0)
    decision = doubler_class.trigger_retraining(log, labels, settings=settings)
    assert (decision.outcome, decision.evidence.metric, decision.evidence.drift) == ("kept", None, None)
    assert "199 labelled rows (at least 200" in decision.reason
    assert "too few to test for drift" in decision.reason


def test_a_challenger_that_is_no_better_is_rejected_and_kept_as_challenger(
    some, registry, serve, log, doubler_class, settings
):
    labels = serve(600, seed=2, factor=3.0)
    same = some(600, seed=3)
    decision = doubler_class.trigger_retraining(log, labels, settings=settings, examples=same)
    assert (decision.outcome, decision.challenger) == ("rejected", "v2")
    assert "not significantly better" in decision.reason
    assert registry.aliases("doubler") == {"champion": "v1", "challenger": "v2"}


def test_only_rows_of_the_time_asked_for_count(registry, serve, log, doubler_class, settings):
    serve(300, seed=2)
    later = datetime.now(UTC) + timedelta(hours=1)
    assert doubler_class.trigger_retraining(log, settings=settings, since=later).evidence.rows == 0
    assert doubler_class.trigger_retraining(log, settings=settings, until=later).evidence.rows == 300


def test_the_newest_rows_count_if_there_are_more_than_asked_for(registry, serve, log, doubler_class, settings):
    labels = serve(400, seed=2, factor=3.0)
    labels |= serve(400, seed=3)
    options = {"settings": settings, "dry_run": True, "min_rows": 200}
    newest = doubler_class.trigger_retraining(log, labels, max_rows=400, **options)
    assert (newest.outcome, newest.evidence.rows, newest.evidence.labelled) == ("kept", 400, 400)
    assert doubler_class.trigger_retraining(log, labels, max_rows=800, **options).outcome == "retraining_due"


def test_rows_of_no_use_are_counted_and_left_out(registry, serve, log, doubler_class, settings, monkeypatch):
    labels = serve(300, seed=2)
    monkeypatch.setattr(doubler_class, "Label", float)
    ids = list(labels)
    labels |= {ids[0]: "many", ids[1]: None, "nobody": 1.0}
    broken = {"model": "doubler", "model_version": "v1", "created_at": datetime.now(UTC)}
    broken |= {"score_seconds": 0.0, "batch_size": 1, "outcome": "completed"}
    raw = msgspec.Raw
    log.append(
        [
            PredictionRecord(request_id="x", features=raw(b'{"n":1}'), prediction=raw(b'{"double":1}'), **broken),
            PredictionRecord(
                request_id="y", features=raw(b'{"number":1}'), prediction=raw(b'{"double":"1"}'), **broken
            ),
            PredictionRecord(request_id="z", features=raw(b"7"), **(broken | {"outcome": "failed"})),
            PredictionRecord(
                request_id="w",
                features=raw(b'{"number":1,"note":"hash-%s"}' % (b"0a" * 16)),
                prediction=raw(b'{"double":1}'),
                **broken,
            ),
        ]
    )
    evidence = doubler_class.trigger_retraining(log, labels, settings=settings, min_labelled=250).evidence
    assert evidence.skipped == {"bad label": 2, "unreadable": 2, "failed": 1, "redacted": 1}
    assert (evidence.rows, evidence.labelled, evidence.labels_unmatched) == (300, 298, 1)


def test_the_record_on_disk_is_the_decision(registry, serve, log, doubler_class, settings):
    decision = doubler_class.trigger_retraining(log, serve(300, seed=2), settings=settings)
    path = Path(decision.record)
    assert path.parent == settings.home / "retraining" / "doubler"
    assert msgspec.json.decode(path.read_bytes(), type=Decision) == decision
    assert json.loads(path.read_bytes())["evidence"]["metric"]["metric"] == "r2"
