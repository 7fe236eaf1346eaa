"""The contract checks of every model, on its real data. The folder of a new model is tested without further code."""

import json
from typing import NamedTuple

import jsonschema
import msgspec
import pytest

from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.testing.case import CheckCase
from machine_learning_engineering.testing.check_model import prepare, run_check
from machine_learning_engineering.testing.checks import CHECKS
from machine_learning_engineering.training.quick import train
from model.catalog import available

MODELS = available()
ROWS = {"diamonds": 53_940, "reviews": 300, "titanic": 891}
# Below these a model is broken; the training report has the exact figures.
FLOORS = {
    "diamonds": {"r2": 0.98, "mae": 300.0},
    # About 60 held-out reviews: macro_f1 was 0.60 to 0.73 with ten seeds, and sentence_macro_f1 0.47 to 0.52.
    "reviews": {"macro_f1": 0.55, "sentence_macro_f1": 0.42, "mae": 0.80},
    "titanic": {"accuracy": 0.80, "roc_auc": 0.85},
}
LOWER_IS_BETTER = {"mae", "rmse", "log_loss", "brier"}


class Trained(NamedTuple):
    """A champion, and all the requests that its dataset makes, as bytes and decoded."""

    model: MLEModel
    requests: list[bytes]
    rows: list[msgspec.Struct]


@pytest.fixture(scope="module", params=sorted(MODELS))
def trained(request, trained_registry, training_settings) -> Trained:
    model = trained_registry.open(request.param, model_class=MODELS[request.param])
    requests = [msgspec.json.encode(features) for features in model.example_requests(training_settings.data_dir)]
    return Trained(model, requests, [model.decode(raw) for raw in requests])


@pytest.fixture(scope="module")
def case(trained, training_settings) -> CheckCase:
    return prepare(trained.model, examples=trained.model.examples(training_settings.data_dir))


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_the_model_passes_the_contract_checks(case, check):
    run_check(check, case)


def test_every_row_of_the_dataset_is_a_valid_request(trained):
    assert len(trained.rows) == ROWS[trained.model.name]
    assert list(map(msgspec.json.decode, trained.requests)) == list(map(msgspec.to_builtins, trained.rows))


def test_the_published_schema_accepts_the_examples_and_refuses_others(trained):
    validator = jsonschema.Draft202012Validator(trained.model.schema())
    for raw in trained.requests[:200]:
        validator.validate(json.loads(raw))
    assert not validator.is_valid(json.loads(trained.requests[0]) | {"surprise": 1})


def test_the_label_is_no_feature(trained):
    fields = trained.model.Features.__struct_encode_fields__
    assert not {"price", "stars", "survived"} & set(fields)


def test_metrics_reach_the_floor(trained, training_runs):
    metrics = training_runs[trained.model.name].metrics
    for name, floor in FLOORS[trained.model.name].items():
        assert metrics[name] <= floor if name in LOWER_IS_BETTER else metrics[name] >= floor, (name, metrics)


def test_a_row_alone_is_answered_as_in_a_batch(trained):
    rows = trained.rows[:: max(1, len(trained.rows) // 50)]
    batch = trained.model.predict(rows)
    assert len(batch) == len(rows)
    assert [trained.model.predict([row])[0] for row in rows] == list(batch)


def test_training_twice_gives_the_same_model(trained, training_settings, training_runs):
    first = training_runs[trained.model.name]
    again = train(type(trained.model), training_settings)
    assert (again.metrics, again.training_data_sha256) == (first.metrics, first.training_data_sha256)
    assert not again.promoted


def test_each_missing_or_null_field_is_accepted_as_missing_or_refused_by_name(trained):
    """Missing values by policy: a field that may be missing may be null too, and both mean the same."""
    complete = json.loads(trained.requests[0])
    for field in msgspec.structs.fields(trained.model.Features):
        absent = msgspec.json.encode({name: value for name, value in complete.items() if name != field.name})
        null = msgspec.json.encode(complete | {field.name: None})
        if field.required:
            for raw in (absent, null):
                with pytest.raises(InvalidFeatures, match=f"feature `{field.name}` "):
                    trained.model.decode(raw)
        else:
            row = trained.model.decode(absent)
            assert row == trained.model.decode(null)
            assert len(trained.model.predict([row])) == 1


def test_every_field_refuses_nonsense_by_name(trained):
    complete = json.loads(trained.requests[0])
    for field in complete:
        rest = msgspec.json.encode({name: value for name, value in complete.items() if name != field})[:-1]
        for nonsense in (b"NaN", b"-Infinity", b"1e999", b"9" * 500, b"[[]]", b'{"a":1}', b"true", b'"\xff"', b"-1"):
            with pytest.raises(InvalidFeatures, match=f"feature `{field}` "):
                trained.model.decode(rest + b',"%s":%s}' % (field.encode(), nonsense))
