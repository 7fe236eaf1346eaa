"""`inflight retrain`: what it decides, what it promotes if it is asked to, and errors that name the fix."""

from pathlib import Path

import msgspec
import pytest

from inflight.settings import Settings, load_settings
from machine_learning_engineering.drift.binning import reference_profile
from machine_learning_engineering.prediction_log.sqlite import SqlitePredictionLog
from machine_learning_engineering.registry.registry import Registry
from tests.support.line_model import Line, run, run_json, some


@pytest.fixture
def settings(line_settings: Settings) -> Settings:
    return line_settings


@pytest.fixture
def registry(line_registry: Registry) -> Registry:
    return line_registry


@pytest.fixture
def served(registry, settings) -> dict[str, float]:
    """The champion's answers to rows whose true answer is now three times the number; the labels by request id."""
    champion = registry.open("line", model_class=Line)
    examples = some(3.0, seed=5)
    ids = [f"request-{number}" for number in range(len(examples))]
    with SqlitePredictionLog(settings.prediction_log) as log:
        champion.predict_with_logging([example.features for example in examples], log, request_ids=ids)
    return {one: example.label for one, example in zip(ids, examples, strict=True)}


def write_labels(path: Path, labels: dict[str, float]) -> str:
    lines = [f"{one},{label}" for one, label in labels.items()]
    path.write_text("\n".join(["request_id,label", *lines]) + "\n")
    return str(path)


def test_a_dry_run_says_that_retraining_is_due(registry, served, told, tmp_path):
    labels = write_labels(tmp_path / "labels.csv", served)
    decision = run_json("retrain", "line", "--labels", labels, "--dry-run")
    assert (decision["outcome"], decision["evidence"]["labelled"]) == ("retraining_due", 600)
    assert decision["evidence"]["metric"]["significant"]
    assert (registry.champions(), told) == ({"line": "v2"}, [])


def test_labels_of_another_world_promote_nothing_and_a_person_may_override_it(registry, served, told, tmp_path):
    labels = write_labels(tmp_path / "labels.csv", served)
    text = run("retrain", "models:/line@champion", "--labels", labels, "--promote")
    assert "line v2: rejected" in text
    assert "fresh rows by source of the label: 600 'given'" in text
    assert "inflight models promote line:v4" in text
    assert (registry.champions(), told) == ({"line": "v2"}, [])
    run("models", "promote", "line:v4")
    assert registry.champions() == {"line": "v4"}


@pytest.fixture
def poor(registry, settings) -> str:
    """A champion that is worse than what its data would give: its slope was changed. Its version."""
    model = registry.open("line", "v2", model_class=Line)
    model.estimator.coef_ = model.estimator.coef_ * 0.8
    rows = [model.decode(msgspec.json.encode(one.features)) for one in some(2.0, seed=7)]
    found: list[float] = [one.label for one in some(2.0, seed=7)]
    predictions = model.predict(rows)
    profile = reference_profile(model, rows, predictions, found, held_out=rows)
    # As if it had been right once: the answers that are kept are those of another time.
    profile = msgspec.structs.replace(profile, held_out=[({"answer": label}, label) for label in found])
    version = registry.save(model, metrics={"r2": 0.9}, training_data_sha256="", seed=settings.seed, profile=profile)
    registry.promote("line", version)
    examples = some(2.0, seed=5)
    ids = [f"request-{number}" for number in range(len(examples))]
    with SqlitePredictionLog(settings.prediction_log) as log:
        model.predict_with_logging([example.features for example in examples], log, request_ids=ids)
        for request_id, example in zip(ids, examples, strict=True):
            log.label(request_id, example.label)
    return version


def test_a_better_challenger_waits_and_with_a_flag_it_is_promoted_and_workers_are_told(registry, poor, told):
    text = run("retrain", "line")
    assert f"line {poor}: challenger" in text
    assert "It waits for a person: inflight models promote line:v5" in text
    assert (registry.champions(), told) == ({"line": poor}, [])
    assert f"line {poor}: promoted" in run("retrain", "line", "--promote")
    assert (registry.champions(), told) == ({"line": "v6"}, [("line", "v6", poor)])


def test_what_to_retrain_on_may_be_given(registry, served, told, tmp_path):
    data = tmp_path / "fresh.jsonl"
    examples = some(3.0, seed=6)
    data.write_bytes(
        b"".join(msgspec.json.encode({"features": e.features, "label": e.label}) + b"\n" for e in examples)
    )
    labels = write_labels(tmp_path / "labels.csv", served)
    decision = run_json("retrain", "line", "--labels", labels, "--data-source", str(data))
    assert (decision["outcome"], decision["challenger"]) == ("rejected", "v4")
    assert decision["trained_on"] == {"examples": 600}


def test_without_labels_and_drift_the_champion_is_kept(registry, served, told):
    text = run("retrain", "line", "--since", "1h")
    assert "line v2: kept" in text
    assert "no drift" in text


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["line", "--labels", "nowhere.csv"], "the labels in nowhere.csv can't be read"),
        (["line", "--since", "soon"], "'soon' is not a time"),
        (["line", "-ds", "nowhere.csv"], "nowhere.csv is neither a file nor a folder"),
    ],
)
def test_what_is_not_there_is_named(registry, served, arguments, message):
    assert message in run("retrain", *arguments, code=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--log", "nowhere.sqlite"], "error: there is no prediction log at nowhere.sqlite"),
        (["-ds", "log"], "error: there is no prediction log at "),
        (["--log", "elasticsearch"], "is Elasticsearch running? `inflight status` shows it"),
    ],
)
def test_a_log_that_is_away_ends_with_2_in_one_line(registry, settings, monkeypatch, arguments, message):
    """And is no failed retraining, of which there would be a record."""
    monkeypatch.setenv("INFLIGHT_ELASTICSEARCH_URL", "http://127.0.0.1:1")
    load_settings.cache_clear()
    told = run("retrain", "line", *arguments, code=2)
    assert message in told
    assert len(told.splitlines()) == 1
    assert not (settings.home / "retraining").exists()


def test_an_unknown_model_is_named(registry):
    assert "no model is named nothing" in run("retrain", "nothing", code=2)


def test_a_failure_ends_with_1_and_its_reason(registry, served, tmp_path):
    (registry.path / "line" / "v2" / "model.skops").write_bytes(b"damaged")
    assert "model.skops of model `line` v2 has sha256" in run("retrain", "line", code=1)
    assert registry.champions() == {"line": "v2"}
