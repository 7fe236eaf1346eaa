"""The class of a declaration: requests, answers, metrics, training, and its versions in a registry."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

pandas = pytest.importorskip("pandas")
from sklearn.compose import ColumnTransformer  # noqa: E402
from sklearn.dummy import DummyRegressor  # noqa: E402
from sklearn.ensemble import RandomForestClassifier  # noqa: E402
from sklearn.feature_extraction.text import TfidfVectorizer  # noqa: E402
from sklearn.impute import SimpleImputer  # noqa: E402
from sklearn.linear_model import LinearRegression, LogisticRegression  # noqa: E402
from sklearn.pipeline import make_pipeline  # noqa: E402
from sklearn.preprocessing import OneHotEncoder, StandardScaler  # noqa: E402

from machine_learning_engineering.adoption.catalog import adopted_classes, find_adopted  # noqa: E402
from machine_learning_engineering.adoption.model import AdoptedModel, Origin, class_from_toml  # noqa: E402
from machine_learning_engineering.core.example import Example  # noqa: E402
from machine_learning_engineering.core.validation import InvalidFeatures  # noqa: E402
from machine_learning_engineering.drift.binning import reference_profile  # noqa: E402
from machine_learning_engineering.registry.manifest import CorruptModel  # noqa: E402
from machine_learning_engineering.registry.registry import Registry  # noqa: E402
from machine_learning_engineering.registry.trial import Trials  # noqa: E402
from machine_learning_engineering.scoring.scorer import Scorer  # noqa: E402
from machine_learning_engineering.settings import KernelSettings  # noqa: E402
from machine_learning_engineering.testing.check_model import check_model  # noqa: E402
from machine_learning_engineering.training.pipeline import run_training  # noqa: E402

FRAUD = b"""[model]
name = "fraud"
label = "fraud"
classes = [false, true]
answer = { probability = "predict_proba[:, 1]", fraud = "probability >= 0.5" }
[features]
amount = { type = "float", ge = 0, range = [0, 100], numbers_as_text = true }
items = { type = "int", default = 1 }
"pay-ment" = { type = "text", missing = "ok", known = ["card", "cash", "giftcard"] }
shop = { type = "text", constant = "web" }
"""


def orders(rows: int = 120) -> Any:
    random = np.random.default_rng(3)
    frame = pandas.DataFrame(
        {
            "amount": random.gamma(2, 20, rows).round(2),
            "items": random.integers(1, 5, rows),
            "pay-ment": random.choice(["card", "cash", "giftcard"], rows).astype(object),
            "shop": ["web"] * rows,
        }
    )
    frame.loc[::9, "pay-ment"] = np.nan
    return frame


def pipeline(frame: Any) -> Any:
    texts = make_pipeline(SimpleImputer(strategy="constant", fill_value="none"), OneHotEncoder(handle_unknown="ignore"))
    prepared = ColumnTransformer(
        [("numbers", StandardScaler(), ["amount", "items"]), ("texts", texts, ["pay-ment", "shop"])]
    )
    return make_pipeline(prepared, LogisticRegression()).fit(frame, labels(frame))


def labels(frame: Any) -> list[bool]:
    return ((frame.amount > 45) | (frame["pay-ment"] == "giftcard")).tolist()


def examples(frame: Any) -> list[Example]:
    rows = [{k: v for k, v in row.items() if v == v} for row in frame.to_dict("records")]
    return [Example(row, label) for row, label in zip(rows, labels(frame), strict=True)]


@pytest.fixture(scope="module")
def fraud() -> AdoptedModel:
    frame = orders()
    fitted = pipeline(frame)
    model = class_from_toml(FRAUD, origin=Origin(lambda: fitted, lambda: examples(frame)))()
    model.estimator = fitted
    return model


def test_it_keeps_the_contract_of_every_model(fraud: AdoptedModel) -> None:
    """All checks of the kit, among them a fresh process that makes the class from the version's declaration."""
    check_model(fraud)


def test_it_answers_as_the_pipeline_in_a_batch_and_alone(fraud: AdoptedModel) -> None:
    frame = orders()
    expected = fraud.estimator.predict_proba(frame)[:, 1].tolist()
    rows = [fraud.decode(msgspec.json.encode(example.features)) for example in examples(frame)]
    batch: list[Any] = list(fraud.predict(rows))
    alone: list[Any] = [fraud.predict([row])[0] for row in rows]
    assert [one.probability for one in batch] == expected
    assert [one.probability for one in alone] == pytest.approx(expected, abs=1e-12)
    assert [one.fraud for one in batch] == [one >= 0.5 for one in expected]


@pytest.mark.parametrize(
    ("request_", "row"),
    [
        ('{"amount": 2, "items": 2.0}', (2.0, 2, None, "web")),
        ('{"amount": "12.50"}', (12.5, 1, None, "web")),
        ('{"amount": " -0 ", "items": null}', (0.0, 1, None, "web")),
        ('{"amount": 1, "pay-ment": null, "shop": "web", "more": {"x": 1}}', (1.0, 1, None, "web")),
    ],
)
def test_what_producers_send_that_nobody_can_change(fraud: AdoptedModel, request_: str, row: tuple[Any, ...]) -> None:
    assert msgspec.structs.astuple(fraud.decode(request_.encode())) == row


@pytest.mark.parametrize(
    ("request_", "said"),
    [
        ('{"items": 2}', "feature `amount` is missing: it must be a number of at least 0"),
        ('{"amount": -1}', "feature `amount` must be a number of at least 0"),
        ('{"amount": "-1"}', "feature `amount` must be a number of at least 0"),
        ('{"amount": "12,5"}', "feature `amount` must be a number of at least 0, not a string"),
        ('{"amount": "NaN"}', "feature `amount` must be a number"),
        ('{"amount": 1, "items": 2.5}', "feature `items` must be an integer"),
        ('{"amount": 1, "items": "2"}', "feature `items` must be an integer"),
        ('{"amount": 1, "shop": "other"}', "feature `shop` must be one of web"),
        ('{"amount": 1, "pay-ment": 5}', "feature `pay-ment` must be a string or null"),
        ('{"amount": NaN}', "feature `amount` must be a finite number"),
        ("[]", "features of `fraud` must be a JSON object"),
        ("{", "not JSON"),
    ],
)
def test_what_is_refused_names_the_field(fraud: AdoptedModel, request_: str, said: str) -> None:
    with pytest.raises(InvalidFeatures, match=said.replace("(", r"\(")):
        fraud.decode(request_.encode())


def test_a_decimal_number_may_be_one_of_few() -> None:
    model = class_from_toml(FRAUD.replace(b"ge = 0, range", b'known = [1, 2.5], others = "refuse", range'))()
    assert model.decode(b'{"amount": "2.50"}') == model.decode(b'{"amount": 2.5}')
    with pytest.raises(InvalidFeatures, match=r"feature `amount` must be one of 1, 2\.5$"):
        model.decode(b'{"amount": 2}')


def test_unknown_fields_are_refused_if_the_source_says_so() -> None:
    strict = class_from_toml(FRAUD + b'[source]\ntopic = "orders"\nunknown_fields = "refuse"\n')()
    with pytest.raises(InvalidFeatures, match="`more` is unknown to the model `fraud`"):
        strict.decode(b'{"amount": 1, "more": 1}')
    assert strict.schema()["$defs"]["FraudFeatures"]["additionalProperties"] is False


def test_unusual_values_are_counted() -> None:
    model = class_from_toml(FRAUD)()
    model.estimator = pipeline(orders())
    rows = [
        model.decode(one)
        for one in (b'{"amount":1}', b'{"amount":101,"x":1,"y":2}', b'{"amount":1,"pay-ment":"coins"}')
    ]
    model.predict(rows)
    model.predict(rows[2:])
    assert model.counts() == {
        ("", "unknown field"): 2,
        ("amount", "outside the sample's range"): 1,
        ("pay-ment", "not a known value"): 2,
    }


def test_the_schema_has_examples_and_says_what_is_tolerated(fraud: AdoptedModel) -> None:
    fields = fraud.schema()["$defs"]["FraudFeatures"]["properties"]
    assert fields["amount"] == {
        "description": "In the sample from 0 to 100.",
        "type": "number",
        "minimum": 0.0,
        "x-numbers-as-text": True,
    }
    assert "card, cash, giftcard" in json.dumps(fields["pay-ment"])


def _regression() -> tuple[bytes, Any]:
    frame = orders()[["amount", "items"]]
    text = (
        b'model.name = "size"\nmodel.answer = { size = "round(predict, 6)" }\n'
        b'[features]\namount.type = "float"\nitems.type = "int"\n'
    )
    return text, LinearRegression().fit(frame, frame.amount * 2)


def _array() -> tuple[bytes, Any]:
    text, _ = _regression()
    frame = orders()[["amount", "items"]]
    return text.replace(b"model.answer", b'model.inputs = "array"\nmodel.answer'), LinearRegression().fit(
        frame.to_numpy(), frame.amount * 2
    )


def _texts() -> tuple[bytes, Any]:
    words = ["good one", "bad one", "very good", "very bad"] * 5
    text = (
        b'[model]\nname = "tone"\ninputs = "column"\nclasses = ["down", "up"]\nanswer = { tone = "predict" }\n'
        b'[features]\nnote = { type = "text" }\n'
    )
    fitted = make_pipeline(TfidfVectorizer(), LogisticRegression())
    return text, fitted.fit(words, ["up", "down", "up", "down"] * 5)


@pytest.mark.parametrize("make", [_regression, _array, _texts])
def test_estimators_that_were_fitted_on_frames_arrays_and_texts(make: Callable[[], tuple[bytes, Any]]) -> None:
    """Without a warning of scikit-learn about names."""
    text, estimator = make()
    model = class_from_toml(text)()
    model.estimator = estimator
    if model.name == "tone":
        rows = [model.decode(b'{"note":"good"}'), model.decode(b'{"note":"bad"}')]
        assert [one.tone for one in model.predict(rows)] == ["up", "down"]  # type: ignore[attr-defined]
    else:
        [found] = model.predict([model.decode(b'{"amount":4,"items":1}')])
        assert found.size == pytest.approx(8)  # type: ignore[attr-defined]


def test_a_seed_takes_the_place_of_no_seed_alone() -> None:
    model = class_from_toml(FRAUD)()
    model.estimator = make_pipeline(StandardScaler(), RandomForestClassifier(random_state=None))
    assert model.new_estimator(9).get_params()["randomforestclassifier__random_state"] == 9
    model.estimator = make_pipeline(StandardScaler(), RandomForestClassifier(random_state=4))
    assert model.new_estimator(9).get_params()["randomforestclassifier__random_state"] == 4


# --- in a registry ---------------------------------------------------------------------------------------------------


@pytest.fixture
def registry(fraud: AdoptedModel, tmp_path: Path) -> Registry:
    """With v1 of `fraud`, its champion, with a reference profile."""
    found = Registry(tmp_path / "registry")
    frame = orders()
    rows = [fraud.decode(msgspec.json.encode(one.features)) for one in examples(frame)]
    profile = reference_profile(fraud, rows, fraud.predict(rows), labels(frame), held_out=rows)
    version = found.save(fraud, metrics={"roc_auc": 0.9}, training_data_sha256="", seed=1, profile=profile)
    found.promote("fraud", version)
    return found


def test_a_registry_knows_its_adopted_models(registry: Registry) -> None:
    made = adopted_classes(registry)["fraud"]
    assert made.declaration == FRAUD
    assert len(list(made.examples())) == 120
    assert made().new_estimator(1).get_params()["logisticregression"].C == 1.0
    assert registry.open("fraud", model_class=made).declared == class_from_toml(FRAUD).declared


def test_each_version_is_opened_by_its_own_declaration(registry: Registry) -> None:
    """One with fewer features as well; and in the trial, which another process makes."""
    text, estimator = _regression()
    other = class_from_toml(text.replace(b'"size"', b'"fraud"'))()
    other.estimator = estimator
    assert registry.save(other, metrics={}, training_data_sha256="", seed=1) == "v2"
    made = adopted_classes(registry)["fraud"]
    for version, fields in (("v1", 4), ("v2", 2)):
        opened = registry.open("fraud", version, model_class=made)
        assert len(opened.Features.__struct_fields__) == fields
        Trials(registry, registry.path.parent / "tried").require("fraud", version, AdoptedModel)


def test_a_trial_refuses_a_version_that_ends_its_process(registry: Registry, fraud: AdoptedModel) -> None:
    """The child makes the class and predicts: a declaration that can't be answered is no reason, a dead child is."""
    model = class_from_toml(FRAUD)()
    model.estimator = fraud.estimator
    registry.save(model, metrics={}, training_data_sha256="", seed=1)
    path = registry.path / "fraud" / "v2" / "declaration.toml"
    path.chmod(0o600)
    path.write_bytes(FRAUD.replace(b"probability >= 0.5", b"probability >= 0.9"))
    with pytest.raises(CorruptModel, match=r"declaration\.toml of model `fraud` v2 has sha256"):
        Trials(registry, registry.path.parent / "tried").require("fraud", "v2", AdoptedModel)


def test_one_broken_declaration_leaves_the_others(registry: Registry) -> None:
    text, estimator = _regression()
    other = class_from_toml(text)()
    other.estimator = estimator
    registry.promote("size", registry.save(other, metrics={}, training_data_sha256="", seed=1))
    path = registry.path / "size" / "v1" / "declaration.toml"
    path.chmod(0o600)
    path.write_bytes(b"[model")
    found = find_adopted(registry)
    assert found.models.keys() == {"fraud"}
    assert "the adopted model `size` can't be used" in found.broken["size"]


def test_it_is_trained_again_from_the_rows_that_its_version_keeps(registry: Registry, tmp_path: Path) -> None:
    settings = KernelSettings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    entry = run_training(adopted_classes(registry)["fraud"], settings)
    assert (entry.outcome, entry.version, entry.failed_candidates) == ("completed", "v2", [])
    assert registry.declaration("fraud", "v2") == FRAUD
    assert registry.profile("fraud", "v2") is not None


def test_a_model_without_rows_says_how_it_is_trained(fraud: AdoptedModel) -> None:
    with pytest.raises(ValueError, match=r"inflight train fraud -ds FILE\.csv with the label in the column `fraud`"):
        class_from_toml(FRAUD).examples()


def test_a_csv_may_have_more_columns() -> None:
    line = {"amount": "2.5", "items": "3.0", "pay-ment": "", "shop": "web", "note": "x", "fraud": "1"}
    example = class_from_toml(FRAUD).example_from_csv_row(line)
    assert example == Example({"amount": 2.5, "items": 3.0, "shop": "web"}, True, None)


def test_an_estimator_that_answers_too_little_fails_by_name() -> None:
    model = class_from_toml(FRAUD)()
    model.estimator = DummyRegressor().fit([[1.0]], [1.0])
    with pytest.raises(AttributeError, match="predict_proba"):
        model.predict([model.decode(b'{"amount":1}')])


def test_frames_are_scored_in_other_processes_as_by_the_pipeline(registry: Registry, fraud: AdoptedModel) -> None:
    """A class that was made of a declaration has no name to import: the pickle names the base that opens it."""
    frame = orders().drop(columns="shop").set_index(pandas.Index(range(500, 620)))
    scorer = Scorer("fraud", registry=registry.path, model_class=adopted_classes(registry)["fraud"])
    shipped = pickle.loads(pickle.dumps(scorer))
    expected = fraud.estimator.predict_proba(orders())[:, 1].tolist()
    for one in (scorer, shipped):
        scored = one(frame)
        assert scored.index.equals(frame.index)
        assert scored["prediction.probability"].tolist() == expected
        assert scored["error_type"].isna().all()
