"""The wine model keeps the contract of the product, and is worth deploying."""

import json
from importlib.metadata import entry_points
from pathlib import Path

import msgspec
import pytest

from ds_package import Wine
from ds_package.features import CULTIVARS, WineFeatures, build_inputs
from machine_learning_engineering import InvalidFeatures, SqlitePredictionLog, parametrize_with_checks


@pytest.fixture(scope="module")
def examples():
    return list(Wine.examples())


@pytest.fixture(scope="module")
def fitted(examples):
    """Fitted on every analysis but each fifth."""
    model = Wine()
    fitting = [example for index, example in enumerate(examples) if index % 5]
    model.fit([WineFeatures(**one.features) for one in fitting], [one.label for one in fitting], seed=1)
    return model


@parametrize_with_checks([Wine])
def test_the_contract_of_all_models_holds(model, check):
    check(model)


def test_the_product_finds_it_by_its_entry_point():
    [found] = [entry for entry in entry_points(group="machine_learning_engineering.models") if entry.name == "wine"]
    assert found.load() is Wine


def test_the_dataset_is_the_one_that_is_described(examples):
    """178 wines; the sizes of the classes say which is which."""
    assert [sum(one.label == cultivar for one in examples) for cultivar in CULTIVARS] == [59, 71, 48]


def test_wines_that_it_has_not_seen_are_told_apart(fitted, examples):
    held_out = examples[::5]
    metrics = fitted.evaluate(
        fitted.predict([WineFeatures(**one.features) for one in held_out]), [one.label for one in held_out]
    )
    assert metrics["macro_f1"] >= 0.93, metrics
    assert metrics["log_loss"] <= 0.2, metrics


def test_probabilities_are_of_every_cultivar_and_add_up(fitted, examples):
    [answer] = fitted.predict([WineFeatures(**examples[0].features)])
    assert set(answer.probabilities) == set(CULTIVARS)
    assert sum(answer.probabilities.values()) == pytest.approx(1.0)
    assert answer.cultivar == "barolo"


def test_inputs_are_the_fields_in_their_order(examples):
    first = examples[0].features
    assert build_inputs([WineFeatures(**first)]).tolist() == [list(first.values())]
    assert build_inputs([]).shape == (0, 13)


def test_a_mistake_in_a_request_is_named(fitted, examples):
    spoiled = examples[0].features | {"hue": -1}
    with pytest.raises(InvalidFeatures, match="feature `hue` must be a number of at least 0 and at most 5"):
        fitted.decode(json.dumps(spoiled).encode())


def test_predictions_are_logged_and_labelled(fitted, examples, tmp_path: Path):
    """What the deployment does, on a laptop."""
    with SqlitePredictionLog(tmp_path / "log.sqlite") as log:
        fitted.predict_with_logging([examples[0].features], log, request_ids=["bottle-1"], spool_dir=tmp_path)
        log.label("bottle-1", "barolo")
        [kept] = log.read("wine")
    assert msgspec.json.decode(kept.prediction)["cultivar"] == msgspec.json.decode(kept.label) == "barolo"
