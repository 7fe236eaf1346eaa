"""`trigger_retraining` retrains for a reason only, and promotes only what is better."""

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
import pytest

from machine_learning_engineering.core.candidate import Candidate
from machine_learning_engineering.prediction_log.store import PredictionRecord
from machine_learning_engineering.registry.uri import CHAMPION
from machine_learning_engineering.retraining.decision import Decision
from machine_learning_engineering.retraining.trigger import SIGNIFICANCE
from machine_learning_engineering.training.quick import train


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


def test_a_worse_metric_leads_to_a_better_challenger_which_is_promoted(registry, serve, log, doubler_class, settings):
    labels = serve(600, seed=2, factor=3.0)
    decision = doubler_class.trigger_retraining(log, labels, settings=settings)
    assert (decision.outcome, decision.champion, decision.challenger) == ("promoted", "v1", "v2")
    assert decision.evidence.metric.observed < decision.evidence.metric.reference
    assert decision.evidence.metric.p_value <= decision.significance == SIGNIFICANCE
    assert decision.gate.observed > decision.gate.reference
    assert decision.gate.p_value <= SIGNIFICANCE
    assert state(registry) == ("v2", ["v1", "v2"])
    assert registry.aliases("doubler") == {"champion": "v2"}
    assert registry.manifest("doubler", "v2").lineage.parent == "v1"
    assert "better than" in registry.history("doubler")[-1].reason
    model = registry.open("doubler", model_class=doubler_class)
    (answer,) = model.predict([model.decode(b'{"number":10}')])
    assert answer.double == pytest.approx(30, abs=2)
    # What the new champion answers is judged by its own record, not by its predecessor's.
    after = doubler_class.trigger_retraining(log, labels, settings=settings)
    assert (after.outcome, after.champion, after.evidence.rows) == ("kept", "v2", 0)


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
    assert (decision.outcome, decision.challenger) == ("promoted", "v3")
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


def test_drifted_inputs_with_examples_retrain_on_them(some, registry, serve, log, doubler_class, settings):
    serve(600, seed=2, scale=2.0)
    fresh = some(600, seed=3, scale=2.0)
    decision = doubler_class.trigger_retraining(log, settings=settings, examples=fresh)
    assert (decision.outcome, state(registry)) == ("promoted", ("v2", ["v1", "v2"]))


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
