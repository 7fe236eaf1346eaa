"""Why a label is rejected: for a dead letter, which is indexed, so without the label."""

from pathlib import Path
from types import SimpleNamespace
from typing import Annotated, Any, Literal

import msgspec
import pytest
from sklearn.linear_model import LogisticRegression

from inflight.adapters.evaluator import RegistryEvaluator
from inflight.settings import Settings
from machine_learning_engineering.adoption.model import class_from_toml
from machine_learning_engineering.registry.registry import Registry
from monitoring.model_version import ModelVersion

SECRET = "Braund, Mr. Owen Harris"


class Label(msgspec.Struct, forbid_unknown_fields=True):
    who: Literal["a", "b"]


@pytest.mark.parametrize(
    ("kind", "label"),
    [
        (Literal["a", "b"], SECRET),
        (Label, {"who": SECRET}),
        (Label, {SECRET: "a"}),
        (Annotated[str, msgspec.Meta(max_length=3)], SECRET),
        (float, SECRET),
        (list[Literal["a"]], [SECRET]),
    ],
)
def test_a_rejected_label_is_not_quoted(kind: Any, label: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inflight.adapters.version_classes.known_models", lambda: {"m": SimpleNamespace(Label=kind)})
    evaluator = RegistryEvaluator(Settings(_env_file=None, home=tmp_path))  # type: ignore[call-arg]
    reason = evaluator.rejection_reason("m", msgspec.json.encode(label))
    assert reason is not None
    assert reason.startswith("no label of m: ")
    assert not set(SECRET.replace(",", "").replace(".", "").split()) & set(reason.replace("'", " ").split())


def test_bytes_that_are_no_text_are_not_quoted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("inflight.adapters.version_classes.known_models", lambda: {"m": SimpleNamespace(Label=str)})
    evaluator = RegistryEvaluator(Settings(_env_file=None, home=tmp_path))  # type: ignore[call-arg]
    assert "0xff" not in (evaluator.rejection_reason("m", b'"\xff"') or "0xff")


def test_labels_of_a_model_that_was_adopted_later_are_judged(tmp_path: Path) -> None:
    """By the champion's declaration; measured by that of the version that answered."""
    settings = Settings(_env_file=None, home=tmp_path)  # type: ignore[call-arg]
    evaluator = RegistryEvaluator(settings)
    assert evaluator.rejection_reason("tone", b'"sideways"') is None
    registry = Registry(settings.registry_dir)
    model = class_from_toml(
        b'[model]\nname = "tone"\nclasses = ["down", "up"]\nanswer = { tone = "predict" }\ninputs = "array"\n'
        b'[features]\nlevel = { type = "float" }\n'
    )()
    model.estimator = LogisticRegression().fit([[0.0], [1.0]], ["down", "up"])
    registry.promote("tone", registry.save(model, metrics={"accuracy": 1.0}, training_data_sha256="", seed=1))
    assert evaluator.rejection_reason("tone", b'"up"') is None
    assert "no label of tone" in (evaluator.rejection_reason("tone", b'"sideways"') or "")
    pairs = [(b'{"tone":"up"}', b'"up"'), (b'{"tone":"up"}', b'"down"')] * 20
    found = evaluator.evaluate(ModelVersion("tone", "v1"), pairs)
    assert found is not None
    assert (found.primary, found.rows) == ("accuracy", 40)
    assert {one.name: round(one.value, 2) for one in found.metrics}["accuracy"] == 0.5
