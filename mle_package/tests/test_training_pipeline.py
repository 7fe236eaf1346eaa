"""The whole training: repeatable, and tied together by ids."""

import hashlib
import sys
from pathlib import Path

import msgspec
import pytest

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.training import run_log as training_log
from machine_learning_engineering.training.pipeline import run_training

pytest.importorskip("pyarrow")
pytest.importorskip("optuna")


def answers(registry: Path, version: str, model_class) -> list:
    model = Registry(registry).open("doubler", version, model_class=model_class)
    rows = [model.decode(msgspec.json.encode(example.features)) for example in model.examples()]
    return list(model.predict(rows))


def test_a_model_without_candidates_of_its_own_has_one(doubler_class, settings):
    entry = run_training(doubler_class, settings)
    [model] = entry.models
    assert (model.candidate, model.params, model.trials) == ("default", {}, [])
    assert entry.metrics["r2"] == pytest.approx(1.0)
    assert entry.held_out["r2"].mean == entry.metrics["r2"]


def test_the_better_candidate_is_chosen_with_what_its_search_found(compared_class, settings):
    entry = run_training(compared_class, settings)
    poor, good = entry.models
    assert entry.chosen == good.id
    assert "ridge has the best mean r2" in entry.selection
    assert len(good.trials) == 5
    assert good.trials[0].params == {}
    best = max(good.trials, key=lambda trial: trial.score)
    assert good.params == {"alpha": 1e6} | best.params
    assert good.params["alpha"] < 1e3
    assert poor.cross_validation["r2"].mean < 0.5 < good.cross_validation["r2"].low
    assert good.rows_per_second.keys() == {"1", "32", "1024"}


def test_the_same_data_and_seed_give_the_same_result_twice(compared_class, settings):
    one, two = run_training(compared_class, settings), run_training(compared_class, settings)

    def result(entry):
        models = [(m.candidate, m.params, m.cross_validation, m.trials) for m in entry.models]
        return models, entry.held_out, entry.selection, entry.training_data_sha256

    assert result(one) == result(two)
    for first, second in zip(one.models, two.models, strict=True):
        versions = (first.history_version, second.history_version)
        assert len({msgspec.json.encode(answers(settings.history_dir, v, compared_class)) for v in versions}) == 1
    assert (one.promoted, two.promoted) == (True, False)
    assert len({one.run_id, two.run_id, one.chosen, two.chosen}) == 4


def test_without_its_extra_it_says_what_to_install(doubler_class, settings, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    with pytest.raises(ImportError, match=r"optuna is not installed: pip install .*\[training\]"):
        run_training(doubler_class, settings)


def test_another_seed_gives_other_metrics(doubler_class, settings):
    noisy = [Example({"number": n}, 2.0 * n + (-1) ** n * 9) for n in range(50)]
    other = settings.model_copy(update={"seed": 7})
    found = [run_training(doubler_class, one, examples=noisy).metrics for one in (settings, other)]
    assert found[0] != found[1]


def test_data_models_and_log_are_tied_by_ids(compared_class, settings):
    entry = run_training(compared_class, settings)
    assert list(training_log.read(settings.training_log)) == [entry]
    assert list(entry.layers) == ["bronze", "silver", "gold"]
    for layer in entry.layers.values():
        assert hashlib.sha256(Path(layer.path).read_bytes()).hexdigest() == layer.sha256
    assert entry.layers["silver"].parents == (entry.layers["bronze"].id,)
    assert entry.layers["gold"].parents == (entry.layers["silver"].id,)
    history, registry = Registry(settings.history_dir), Registry(settings.registry_dir)
    assert history.versions("doubler") == [model.history_version for model in entry.models]
    for model in entry.models:
        kept = history.manifest("doubler", model.history_version)
        assert kept.params["model_id"] == model.id
        assert kept.metrics == {name: estimate.mean for name, estimate in model.cross_validation.items()}
        assert kept.lineage.training_run == entry.run_id
    best = registry.manifest("doubler", entry.version)
    assert (best.params["model_id"], best.metrics) == (entry.chosen, entry.metrics)
    assert best.lineage.training_run == entry.run_id
    assert best.lineage.datasets == {layer.id: layer.sha256 for layer in entry.layers.values()}
    assert registry.profile("doubler", entry.version) is not None
    assert registry.champions() == {"doubler": entry.version}


def test_the_gold_layer_is_what_was_fitted_and_measured(doubler_class, settings):
    from machine_learning_engineering.training import layers

    seen = {}

    class Spy(doubler_class):
        def fit(self, rows, labels, **options):
            seen["fitted"] = self.build_inputs(rows)[:, 0].tolist()
            super().fit(rows, labels, **options)

    entry = run_training(Spy, settings)
    _, gold = layers.read(Path(entry.layers["gold"].path))
    fitted = [row["input_0"] for row in gold.to_pylist() if row["part"] == "fit"]
    assert sorted(seen["fitted"]) == sorted(fitted)
    assert (len(fitted), gold.num_rows - len(fitted)) == (entry.rows_trained, entry.rows_held_out)


def test_every_target_may_be_elsewhere(doubler_class, settings, tmp_path):
    elsewhere = {name: tmp_path / name for name in ("data", "models", "sota", "log")}
    run_training(
        doubler_class, settings.model_copy(update={f"train_{name}_target": path for name, path in elsewhere.items()})
    )
    assert len(list(elsewhere["data"].rglob("*.parquet"))) == 3
    assert Registry(elsewhere["models"]).versions("doubler") == ["v1"]
    assert Registry(elsewhere["sota"]).champions() == {"doubler": "v1"}
    assert len(list(training_log.read(elsewhere["log"]))) == 1
    assert Registry(settings.registry_dir).models() == []


def test_at_most_n_configurations_are_tried(compared_class, settings):
    def tried(most):
        entry = run_training(compared_class, settings.model_copy(update={"train_n_models": most}))
        return [max(1, len(model.trials)) for model in entry.models]

    assert [tried(most) for most in (1, 2, 4)] == [[1], [1, 1], [1, 3]]


def test_fits_are_counted(compared_class, settings):
    steps = []
    run_training(compared_class, settings, on_progress=lambda *step: steps.append(step))
    assert steps[0] == ("doubler: reading the data", 0, 0)
    # 20 folds and a last fit for each, and 5 configurations on 4 folds.
    assert steps[-1] == ("doubler: saving", 62, 62)
    assert {step.split()[1] for step, _, _ in steps} >= {"searching", "cross-validating", "fitting", "measuring"}
