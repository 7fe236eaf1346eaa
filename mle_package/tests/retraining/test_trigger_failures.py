"""No failure of `trigger_retraining` harms the champion; each is recorded with its cause."""

import json
from pathlib import Path

import numpy as np
import pytest

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.prediction_log.store import PredictionLogError
from machine_learning_engineering.registry import artifacts
from machine_learning_engineering.registry.registry import Registry


def failed(decision, registry, message, versions=("v1",)):
    assert decision.outcome == "failed"
    assert message in decision.error
    assert decision.champion == "v1"
    assert (registry.champions(), registry.versions("doubler")) == ({"doubler": "v1"}, list(versions))
    assert json.loads(Path(decision.record).read_bytes())["error"] == decision.error


@pytest.fixture
def worse(serve):
    """Labels that give a reason to retrain."""
    return serve(300, seed=2, factor=3.0)


def test_bad_examples_leave_the_champion(registry, worse, log, doubler_class, settings):
    bad = [Example({"number": -1.0 if row % 50 == 7 else 1.0}, 2.0) for row in range(300)]
    decision = doubler_class.trigger_retraining(log, worse, settings=settings, examples=bad)
    failed(decision, registry, "InvalidFeatures: feature `number` must be a number of at least 0")
    assert decision.evidence.metric.significant


def test_a_failing_fit_leaves_the_champion(registry, worse, log, doubler_class, settings, monkeypatch):
    def fit(*arguments, **options):
        raise np.linalg.LinAlgError("did not converge")

    monkeypatch.setattr(doubler_class, "fit", fit)
    decision = doubler_class.trigger_retraining(log, worse, settings=settings)
    failed(decision, registry, "LinAlgError: did not converge")


def test_a_disk_that_is_full_while_saving_leaves_the_champion(
    registry, worse, log, doubler_class, settings, monkeypatch
):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(artifacts, "add", full)
    decision = doubler_class.trigger_retraining(log, worse, settings=settings)
    failed(decision, registry, "No space left on device")


def test_a_disk_that_is_full_for_the_record_too_still_gives_the_decision(
    registry, worse, log, doubler_class, settings, monkeypatch
):
    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(durable, "write", full)
    decision = doubler_class.trigger_retraining(log, worse, settings=settings)
    assert (decision.outcome, decision.record) == ("failed", "")
    assert "No space left on device" in decision.error
    assert "the decision could not be recorded" in decision.error
    assert (registry.champions(), registry.versions("doubler")) == ({"doubler": "v1"}, ["v1"])


@pytest.mark.parametrize("file", ["model.skops", "profile.json"])
def test_a_damaged_champion_is_neither_opened_nor_replaced(registry, worse, log, doubler_class, settings, file):
    (registry.path / "doubler" / "v1" / file).write_bytes(b"damaged")
    decision = doubler_class.trigger_retraining(log, worse, settings=settings)
    failed(decision, registry, f"CorruptModel: {file} of model `doubler` v1 has sha256")


def test_a_challenger_whose_file_was_exchanged_is_not_promoted(
    registry, worse, log, doubler_class, settings, monkeypatch
):
    add = artifacts.add

    def exchanged(files, contents, manifest):
        version = add(files, contents, manifest)
        folder = registry.path / "doubler"
        (folder / version / "model.skops").write_bytes((folder / "v1" / "profile.json").read_bytes())
        return version

    monkeypatch.setattr(artifacts, "add", exchanged)
    decision = doubler_class.trigger_retraining(log, worse, settings=settings)
    failed(decision, registry, "CorruptModel: model.skops of model `doubler` v2", versions=("v1", "v2"))
    assert decision.challenger == "v2"


def test_a_log_that_cannot_be_read_leaves_the_champion(registry, doubler_class, settings):
    class Away:
        def read(self, model, **options):
            raise PredictionLogError("the log is away")

    failed(doubler_class.trigger_retraining(Away(), settings=settings), registry, "PredictionLogError: the log is away")


def test_a_champion_that_changed_meanwhile_is_not_replaced(outgrown, log, tree_class, settings):
    labels, fresh = outgrown
    registry = Registry(settings.registry_dir)

    def meanwhile(step):
        if "comparing v2 with v1" in step:
            model = registry.open("doubler", model_class=tree_class)
            other = registry.save(model, metrics={"r2": 1.0}, training_data_sha256="", seed=1)
            registry.promote("doubler", other)

    decision = tree_class.trigger_retraining(
        log, labels, settings=settings, examples=fresh, promote=True, on_progress=meanwhile
    )
    assert decision.outcome == "rejected"
    assert "v3 became the champion in the meantime" in decision.reason
    assert registry.champions() == {"doubler": "v3"}


def test_a_model_without_a_champion_says_how_to_get_one(log, doubler_class, settings):
    decision = doubler_class.trigger_retraining(log, settings=settings)
    assert (decision.outcome, decision.champion) == ("failed", None)
    assert "run inflight train doubler" in decision.error


def test_a_version_without_a_profile_says_how_to_get_one(log, doubler, doubler_class, settings):
    registry = Registry(settings.registry_dir)
    registry.promote("doubler", registry.save(doubler, metrics={"r2": 1.0}, training_data_sha256="", seed=1))
    decision = doubler_class.trigger_retraining(log, settings=settings)
    failed(decision, registry, "has no reference profile: run inflight train doubler")


@pytest.mark.parametrize(
    "options",
    [
        {"significance": 0},
        {"significance": 1},
        {"min_labelled": 1},
        {"min_rows": 0},
        {"max_rows": 100},
        {"max_source_share": 0},
        {"max_source_share": 1.5},
    ],
)
def test_options_that_make_no_sense_are_refused_at_once(log, doubler_class, settings, options):
    with pytest.raises(ValueError, match=r"significance is|min_labelled must be|max_source_share is"):
        doubler_class.trigger_retraining(log, settings=settings, **options)
