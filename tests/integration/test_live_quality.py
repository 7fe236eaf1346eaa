"""Live quality is what the models themselves say: the same numbers as `evaluate` on the same rows."""

import math
from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
import pytest

from inflight.adapters.evaluator import RegistryEvaluator
from inflight.settings import Settings
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from model.catalog import available
from monitoring.model_version import ModelVersion
from monitoring.quality.evaluation import EvaluationError

PRIMARY = {"diamonds": "r2", "titanic": "roc_auc", "reviews": "sentence_macro_f1"}


@pytest.fixture(scope="session")
def evaluator(trained_registry: Registry, training_settings: Settings) -> RegistryEvaluator:
    return RegistryEvaluator(training_settings)


@pytest.fixture(params=sorted(PRIMARY))
def champion(request: pytest.FixtureRequest, trained_registry: Registry) -> MLEModel:
    name: str = request.param
    return trained_registry.open(name, model_class=available()[name])


def answered(champion: MLEModel, settings: Settings, count: int) -> Iterator[tuple[Any, Any]]:
    """Predictions and labels of the dataset's first rows."""
    examples = list(islice(type(champion).examples(settings.data_dir), count))
    rows = [champion.decode(msgspec.json.encode(example.features)) for example in examples]
    return zip(champion.predict(rows), [example.label for example in examples], strict=True)


def test_the_numbers_are_those_of_evaluate(
    evaluator: RegistryEvaluator, champion: MLEModel, trained_registry: Registry, training_settings: Settings
) -> None:
    """After a way through JSON; inside their intervals, beside what the registry recorded."""
    predictions, labels = zip(*answered(champion, training_settings, 200), strict=True)
    encode = msgspec.json.encode
    answers = [(encode(prediction), encode(label)) for prediction, label in zip(predictions, labels, strict=True)]
    evaluation = evaluator.evaluate(ModelVersion(champion.name, champion.version), answers)
    assert evaluation is not None
    expected = champion.evaluate(predictions, labels)
    assert {metric.name: metric.value for metric in evaluation.metrics} == expected
    recorded = trained_registry.manifest(champion.name, champion.version).metrics
    assert {metric.name: metric.reference for metric in evaluation.metrics} == recorded
    assert all(metric.lower <= metric.value <= metric.upper for metric in evaluation.metrics)
    assert any(metric.lower < metric.upper for metric in evaluation.metrics)
    assert (evaluation.primary, evaluation.rows, evaluation.confidence) == (PRIMARY[champion.name], 200, 0.95)


def test_a_version_that_the_registry_does_not_have_is_measured_without_reference(evaluator: RegistryEvaluator) -> None:
    """And answers that do not fit the model any more are left out."""
    answers = [(b'{"price":%d.0}' % price, b"%d.5" % (price + price % 7)) for price in range(300, 340)]
    evaluation = evaluator.evaluate(
        ModelVersion("diamonds", "v999"), [*answers, (b'{"cost":1.0}', b"1.5"), (answers[0][0], b'"dear"')]
    )
    assert evaluation is not None
    assert evaluation.rows == 40
    assert {metric.reference for metric in evaluation.metrics} == {msgspec.UNSET}


def test_what_the_models_do_not_know_is_not_judged(evaluator: RegistryEvaluator) -> None:
    """Neither their labels nor their answers."""
    assert evaluator.rejection_reason("nobody", b'"anything"') is None
    assert evaluator.evaluate(ModelVersion("nobody", "v1"), [(b"{}", b"1")] * 50) is None


@pytest.mark.parametrize(
    ("model", "label", "fits"),
    [
        ("diamonds", b"326.5", True),
        ("diamonds", b"326", True),
        ("diamonds", b"-1", False),
        ("diamonds", b'"dear"', False),
        ("titanic", b"true", True),
        ("titanic", b"1", False),
    ],
)
def test_a_label_is_refused_by_the_models_own_type(
    evaluator: RegistryEvaluator, model: str, label: bytes, fits: bool
) -> None:
    """With a reason that names the model."""
    reason = evaluator.rejection_reason(model, label)
    assert (reason is None) is fits
    assert reason is None or model in reason


def test_what_can_be_measured_is_measured(evaluator: RegistryEvaluator) -> None:
    """All of one class has no ROC curve, but an accuracy."""
    same = [(b'{"survived":true,"probability":0.9}', b"true")] * 40 + [
        (b'{"survived":false,"probability":0.2}', b"true")
    ]
    evaluation = evaluator.evaluate(ModelVersion("titanic", "v1"), same)
    assert evaluation is not None
    assert {metric.name for metric in evaluation.metrics} == {"accuracy", "f1", "log_loss"}
    assert (evaluation.primary, evaluation.undefined, evaluation.rows) == ("roc_auc", ("roc_auc",), 41)
    assert all(math.isfinite(one.value + one.lower + one.upper) for one in evaluation.metrics)


def test_that_nothing_can_be_measured_is_said_without_quoting_anything(
    evaluator: RegistryEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(EvaluationError, match="40 predictions, 0 of which the model can read"):
        evaluator.evaluate(ModelVersion("titanic", "v1"), [(b"[]", b"true")] * 40)
    answers = [(b'{"price":%d.0}' % price, b"%d.5" % price) for price in range(300, 340)]
    monkeypatch.setattr(available()["diamonds"], "evaluate", lambda *rows: {"r2": math.nan})
    with pytest.raises(EvaluationError, match="no metric is defined for 40 predictions: r2"):
        evaluator.evaluate(ModelVersion("diamonds", "v1"), answers)

    def evaluate(_model: MLEModel, predictions: Sequence[Any], _labels: Sequence[Any]) -> dict[str, float]:
        raise KeyError(predictions[0].price)

    monkeypatch.setattr(available()["diamonds"], "evaluate", evaluate)
    with pytest.raises(EvaluationError, match=r"evaluate\(\) raises KeyError at test_live_quality.py") as raised:
        evaluator.evaluate(ModelVersion("diamonds", "v1"), answers)
    assert "300" not in str(raised.value)


def test_samples_that_do_not_define_a_metric_are_left_out_of_its_interval(
    evaluator: RegistryEvaluator, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A metric may be defined on all answers and not on some of the samples that its interval is made of."""

    def evaluate(_model: MLEModel, _predictions: Sequence[Any], labels: Sequence[Any]) -> dict[str, float]:
        return {"r2": 0.5, "rare": 1.0 if 300.5 in labels else math.nan}

    monkeypatch.setattr(available()["diamonds"], "evaluate", evaluate)
    answers = [(b'{"price":%d.0}' % price, b"%d.5" % price) for price in range(300, 340)]
    evaluation = evaluator.evaluate(ModelVersion("diamonds", "v1"), answers)
    assert evaluation is not None
    assert [(one.name, one.lower, one.upper) for one in evaluation.metrics] == [("r2", 0.5, 0.5), ("rare", 1.0, 1.0)]
    assert evaluation.undefined == ()
