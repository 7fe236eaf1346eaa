"""Reloading models while requests flow: whatever is wrong with the registry, the models in service stay."""

import asyncio
import sys
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from sklearn.linear_model import LinearRegression

from machine_learning_engineering.adoption.model import class_from_toml
from machine_learning_engineering.registry.manifest import RegistryError
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.trial import Trials
from machine_learning_engineering.sdk import MLEModel
from stream_app.runtime.metrics import WorkerMetrics
from stream_app.runtime.models import LoadedModels
from stream_app.runtime.reload import ModelReloader


class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: float


class Line(MLEModel):
    name = "line"
    Features = Number
    Prediction = Number
    primary_metric = "r2"
    trusted_types = frozenset({"steps_of_the_line.Own"})


def save(registry: Registry, estimator: Any) -> str:
    model = Line()
    model.estimator = estimator.fit([[1.0], [2.0]], [2.0, 4.0])
    return registry.save(model, metrics={"r2": 0.9}, training_data_sha256="", seed=1)


class Worker:
    """The part of a worker that reloads models. `promoted` are the versions that took over."""

    def __init__(self, registry: Registry) -> None:
        self.loaded = LoadedModels(registry, {"line": Line})
        self.metrics = WorkerMetrics()
        self.promoted: list[str] = []
        self.loaded.open_all()
        self._reloader = ModelReloader(None, self.loaded, self._serve, self.metrics)

    def reload(self) -> None:
        asyncio.run(self._reloader.reload())

    def _serve(self, models: Mapping[str, Any]) -> None:
        self.promoted += [model.version for model in models.values()]

    def refuses(self) -> float:
        """Whether it can't open what is promoted now."""
        return float(self.metrics.registry.get_sample_value("inflight_worker_model_refused", {"model": "line"}) or 0)

    def refused(self) -> float:
        return float(self.metrics.registry.get_sample_value("inflight_worker_models_refused_total") or 0)


@pytest.fixture
def registry(tmp_path: Path) -> Registry:
    """With v1, the champion, and v2."""
    found = Registry(tmp_path)
    for _ in range(2):
        save(found, LinearRegression())
    found.promote("line", "v1")
    return found


def test_a_promoted_version_takes_over(registry: Registry) -> None:
    worker = Worker(registry)
    registry.promote("line", "v2")
    worker.reload()
    assert (worker.promoted, worker.loaded.models["line"].version) == (["v2"], "v2")


@pytest.mark.parametrize(
    "damage", [b"", b'{"aliases": {"champion', b'{"aliases": {"champion": "v\xff1"}, "history": []}']
)
def test_aliases_that_can_not_be_read_leave_the_models_as_they_are(
    registry: Registry, damage: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """And what is promoted once they are repaired takes over."""
    worker = Worker(registry)
    (registry.path / "line" / "aliases.json").write_bytes(damage)
    worker.reload()
    assert (worker.promoted, worker.loaded.models["line"].version) == ([], "v1")
    assert "the registry can't be read, the models stay as they are: the aliases of model `line`" in caplog.text
    registry.promote("line", "v2")
    worker.reload()
    assert worker.promoted == ["v2"]


def test_a_version_whose_class_is_not_in_the_code_here_is_refused(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As where the worker's code is older than that of the training."""
    steps: Any = ModuleType("steps_of_the_line")
    steps.Own = type("Own", (LinearRegression,), {"__module__": steps.__name__})
    monkeypatch.setitem(sys.modules, steps.__name__, steps)
    worker = Worker(registry)
    registry.promote("line", save(registry, steps.Own()))
    del steps.Own
    worker.reload()
    assert (worker.promoted, worker.loaded.models["line"].version, worker.refused()) == ([], "v1", 1.0)
    expected = "line v3 was promoted but can't be opened; v1 stays in service: model.skops of model `line` v3"
    assert expected in caplog.text


def test_a_class_that_can_not_be_created_leaves_the_version_before_in_service(
    registry: Registry, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever it raises: it would end all workers at once, and each of them again after its restart."""
    worker = Worker(registry)
    registry.promote("line", "v2")

    def fail(_: Any) -> None:
        raise KeyError("a secret")

    with monkeypatch.context() as patched:
        patched.setattr(Line, "__init__", fail)
        worker.reload()
    assert (worker.promoted, worker.loaded.models["line"].version, worker.refused()) == ([], "v1", 1.0)
    assert "v1 stays in service: KeyError at test_reload.py" in caplog.text
    assert "a secret" not in caplog.text
    worker.reload()
    assert worker.promoted == ["v2"]


def test_what_is_promoted_counts_as_refused_until_it_is_rolled_back(registry: Registry) -> None:
    """The count of refusals stays; whether there is one now does not."""
    worker = Worker(registry)
    file = next((registry.path / "line" / "v2").glob("*.skops"))
    registry.promote("line", "v2")
    content = file.read_bytes()
    file.chmod(0o644)
    file.write_bytes(content[:-1] + b"x")
    worker.reload()
    worker.reload()
    assert (worker.refuses(), worker.refused()) == (1, 1)
    registry.promote("line", "v1")
    worker.reload()
    assert (worker.refuses(), worker.refused()) == (0, 1)


CRASHING = """
import ctypes
import msgspec
from machine_learning_engineering.sdk import MLEModel

class Number(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    number: float

class Crashing(MLEModel):
    name = "line"
    Features = Number
    Prediction = Number
    primary_metric = "r2"

    def predict(self, rows):
        if self.estimator.coef_[0] < 0:
            ctypes.string_at(0)
        return rows
"""


def falling(registry: Registry, model_class: type[MLEModel]) -> str:
    """A version that crashes the process that predicts with it."""
    model = model_class()
    model.estimator = LinearRegression().fit([[1.0], [2.0]], [2.0, 1.0])
    return registry.save(model, metrics={"r2": 0.9}, training_data_sha256="", seed=1)


@pytest.fixture
def crashing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The class of a model in a module that a child process can import."""
    (tmp_path / "code").mkdir()
    (tmp_path / "code" / "crashing_line.py").write_text(CRASHING)
    monkeypatch.syspath_prepend(tmp_path / "code")
    yield import_module("crashing_line").Crashing
    del sys.modules["crashing_line"]


def test_a_version_that_ends_its_process_never_enters_this_one(
    registry: Registry, crashing: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The one before goes on; and a worker that starts afterwards serves it as well."""
    trials = Trials(registry, tmp_path / "tried")
    loaded = LoadedModels(registry, {"line": crashing}, trials)
    assert loaded.open_all()["line"].version == "v1"
    registry.promote("line", falling(registry, crashing))
    assert loaded.refresh() == ([], ["line"])
    assert loaded.models["line"].version == "v1"
    assert "line v3 was promoted but can't be opened; v1 stays in service" in caplog.text
    assert loaded.refresh() == ([], [])
    successor = LoadedModels(registry, {"line": crashing}, Trials(registry, tmp_path / "tried"))
    assert successor.open_all()["line"].version == "v1"
    assert successor.refresh() == ([], [])
    registry.promote("line", "v2")
    assert successor.refresh() == (["line"], [])


def test_a_first_version_that_ends_its_process_is_not_served(registry: Registry, crashing: Any, tmp_path: Path) -> None:
    other = Registry(tmp_path / "other")
    other.promote("line", falling(other, crashing))
    with pytest.raises(SystemExit, match="there is no trained model"):
        LoadedModels(other, {"line": crashing}, Trials(other, tmp_path / "tried")).open_all()


ADOPTED = b"""[model]
name = "adopted"
inputs = "array"
answer = { double = "predict" }
[model.redact]
number = "drop"
[features]
number = { type = "float" }
"""


def adopt(registry: Registry, declaration: bytes = ADOPTED) -> str:
    model = class_from_toml(declaration)()
    model.estimator = LinearRegression().fit([[1.0], [2.0]], [2.0, 4.0])
    version = registry.save(model, metrics={}, training_data_sha256="", seed=1)
    registry.promote("adopted", version)
    return version


def test_one_model_that_can_not_be_opened_leaves_the_others(
    registry: Registry, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """At the start as well; once it is whole again, it is served."""
    adopt(registry)
    file = registry.path / "adopted" / "v1" / "declaration.toml"
    file.chmod(0o600)
    file.write_bytes(b"[model")
    worker = Worker(registry)
    assert worker.loaded.models.keys() == {"line"}
    assert worker.loaded.refused == {"adopted"}
    assert "declaration.toml of model `adopted` v1 has sha256" in caplog.text
    file.write_bytes(ADOPTED)
    worker.reload()
    assert worker.loaded.models.keys() == {"line", "adopted"}
    assert worker.loaded.refused == frozenset()


def test_without_any_model_that_can_be_opened_a_worker_says_why(tmp_path: Path) -> None:
    registry = Registry(tmp_path / "other")
    adopt(registry)
    (registry.path / "adopted" / "v1" / "model.skops").unlink()
    with pytest.raises(RegistryError, match=r"model\.skops of model `adopted` v1 can't be read"):
        LoadedModels(registry, {}).open_all()


def test_a_model_that_is_adopted_later_is_served_with_its_own_rules(registry: Registry) -> None:
    """Each version as its own declaration says; one whose rules can't be followed is refused."""
    worker = Worker(registry)
    adopt(registry)
    worker.reload()
    [found] = [model for name, model in worker.loaded.models.items() if name == "adopted"]
    assert (found.version, type(found).redacted_features) == ("v1", {"number": "drop"})
    assert found.predict([found.decode(msgspec.Raw(b'{"number":3,"more":1}'))])[0].double == pytest.approx(6)
    adopt(registry, ADOPTED.replace(b'number = { type = "float" }', b'number = { type = "int", le = 5 }'))
    worker.reload()
    with pytest.raises(ValueError, match="`number` must be an integer at most 5"):
        worker.loaded.models["adopted"].decode(msgspec.Raw(b'{"number":6}'))

    def accept(name: str, model_class: type) -> None:
        raise ValueError("no key")

    strict = LoadedModels(registry, {"line": Line}, None, accept)
    with pytest.raises(ValueError, match="no key"):
        strict.open_all()
