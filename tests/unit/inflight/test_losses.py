"""Losses of single predictions: their mean orders two versions as the model's own metric does."""

import itertools
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pytest
from msgspec import Meta
from sklearn.linear_model import LogisticRegression

from inflight.adapters.losses import RegistryLosses
from inflight.settings import Settings
from machine_learning_engineering.adoption.model import class_from_toml
from machine_learning_engineering.core.row_loss import row_loss
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel
from model.diamonds import Diamonds
from model.reviews import Reviews
from model.titanic import Titanic

ROWS = 600


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]


def mean_loss(losses: RegistryLosses, model: str, version: str, answers: list[Any], labels: list[Any]) -> float:
    found = [
        losses.loss(model, version, msgspec.json.encode(answer), msgspec.json.encode(label))
        for answer, label in zip(answers, labels, strict=True)
    ]
    assert None not in found
    return float(np.mean(np.array(found, dtype=float)))


@pytest.mark.parametrize("cls", [Diamonds, Titanic, Reviews], ids=lambda cls: cls.name)
def test_the_mean_loss_orders_versions_as_the_primary_metric_does(cls: type[MLEModel], settings: Settings) -> None:
    """One version is fitted on true labels, and one on labels of which a part is shuffled."""
    examples = list(itertools.islice(cls.examples(), 2 * ROWS))
    model = cls()
    rows = [model.decode(msgspec.json.encode(example.features)) for example in examples]
    labels = [msgspec.convert(example.label, cls.Label) for example in examples]
    half = len(rows) // 2
    wrong = np.random.default_rng(1).permutation(half)
    shuffled = [labels[wrong[number]] if number % 3 else labels[number] for number in range(half)]
    losses, found = RegistryLosses(settings), []
    for version, of_training in (("v1", labels[:half]), ("v2", shuffled)):
        model = cls()
        model.fit(rows[:half], of_training, seed=0, candidate=model.candidates()[0])
        model.version = version
        model.opened()
        answers = list(model.predict(rows[half:]))
        metric = model.evaluate(answers, labels[half:])[cls.primary_metric]
        found.append((mean_loss(losses, cls.name, version, answers, labels[half:]), metric))
    (loss, metric), (worse, lower) = found
    assert metric > lower
    assert loss < worse


ADOPTED = b"""
[model]
name = "tone"
label = "tone"
classes = ["down", "up"]
answer = { %s }
inputs = "array"
[features]
level = { type = "float" }
"""


@pytest.mark.parametrize(
    "answer",
    [
        'probability = "predict_proba[:, 1]"',
        'tone = "predict"',
        'score = "decision_function"',
        'scores = "predict_proba"',
        'first = "top(predict_proba, 1)"',
        'is_up = "predict_proba[:, 1] > 0.5"',
    ],
)
def test_an_adopted_model_is_judged_by_its_answer(answer: str, settings: Settings) -> None:
    """A probability above one half, or a score above zero, predicts its class."""
    model = class_from_toml(ADOPTED % answer.encode())()
    rows = [[level / 10] for level in range(-20, 20)]
    labels = ["up" if level > 0 else "down" for (level,) in rows]
    model.estimator = LogisticRegression().fit(rows, labels)
    registry = Registry(settings.registry_dir)
    version = registry.save(
        model, metrics={model.primary_metric: 1.0}, params={}, training_data_sha256="0" * 64, seed=0
    )
    predict = registry.open("tone", version, model_class=type(model)).predict
    answers = list(predict([model.decode(b'{"level":%d}' % level) for level in (-2, 2)]))
    losses = RegistryLosses(settings)
    assert mean_loss(losses, "tone", version, answers, ["down", "up"]) == 0.0
    assert mean_loss(losses, "tone", version, answers, ["up", "down"]) == 1.0
    assert mean_loss(losses, "tone", version, answers, ["up", "up"]) == 0.5
    encoded = msgspec.json.encode(answers[0])
    assert losses.loss("tone", version, encoded, b'"sideways"') is None
    assert losses.is_valid("tone", version, encoded)
    assert not losses.is_valid("tone", version, b"{}")


class Prediction(msgspec.Struct, frozen=True):
    score: Annotated[float, Meta(ge=0, le=1)]
    sure: bool
    kind: str
    price: float = 3.0


@pytest.mark.parametrize(
    ("label", "kind", "name", "expected"),
    [
        (5.0, float, "price", 2.0),
        (5, Annotated[float, Meta(gt=0)], "cost", 4.75),
        (True, bool, "sure", 1.0),
        (False, bool, "anything", 0.0),
        (True, bool, "score", 1.0),
        ("a", Literal["a", "b"], "label", 0.0),
        (3, Literal[3, 4], "price", 0.0),
        (4, Literal[3, 4], "price", 1.0),
    ],
)
def test_what_is_compared_with_a_label(label: Any, kind: Any, name: str, expected: float) -> None:
    assert row_loss(Prediction(0.25, False, "a"), label, kind, name) == expected


def test_a_label_that_nothing_can_be_compared_with_is_no_loss(settings: Settings) -> None:
    with pytest.raises(TypeError, match="must define row_loss"):
        row_loss(Prediction(0.25, False, "a"), [1], list[int], "label")
    losses = RegistryLosses(settings)
    assert losses.loss("diamonds", "v1", b'{"price":326.0}', b"300.5") == 25.5
    assert losses.loss("diamonds", "v1", b'{"price":null}', b"300.5") is None
    assert losses.loss("diamonds", "v1", b'{"price":326.0}', b'"dear"') is None
    assert losses.loss("unknown", "v1", b"{}", b"1") is None
    assert losses.is_valid("unknown", "v1", b'{"any":1}')
    assert not losses.is_valid("unknown", "v1", b"{")
    assert not losses.is_valid("diamonds", "v1", b'{"price":1e999}')


def test_a_model_that_fails_to_judge_ends_nothing(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Diamonds, prediction: Any, label: Any) -> float:
        raise ZeroDivisionError

    monkeypatch.setattr(Diamonds, "row_loss", broken, raising=False)
    losses = RegistryLosses(settings)
    assert losses.loss("diamonds", "v1", b'{"price":326.0}', b"300.5") is None
    monkeypatch.setattr(Diamonds, "row_loss", lambda self, prediction, label: float("nan"))
    assert losses.loss("diamonds", "v1", b'{"price":326.0}', b"300.5") is None
