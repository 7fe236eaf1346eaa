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
