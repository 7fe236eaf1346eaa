"""A version that would end the process that serves it is found in a child process, and stays in quarantine."""

import hashlib
import json
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import pytest
from msgspec import Meta

from machine_learning_engineering.registry import trial
from machine_learning_engineering.registry.manifest import CorruptModel
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.registry.trial import Trials, VersionInQuarantine, sample_request


@pytest.fixture
def model_class(monkeypatch):
    """A class that a child process can import."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "support")
    yield import_module("broken_models").Length
    del sys.modules["broken_models"]


@pytest.fixture
def registry(tmp_path) -> Registry:
    return Registry(tmp_path / "registry")


@pytest.fixture
def trials(registry, tmp_path) -> Trials:
    return Trials(registry, tmp_path / "tried")


@pytest.fixture
def tried(monkeypatch) -> list[bytes]:
    """The verdicts of child processes, in order."""
    found = []
    original = trial._try
    monkeypatch.setattr(trial, "_try", lambda *task: found.append(original(*task)) or found[-1])
    return found


def save(registry: Registry, model_class, estimator: Any) -> str:
    model = model_class()
    model.estimator = estimator
    return registry.save(model, metrics={"r2": 0.9}, training_data_sha256="", seed=1)


def trees(child: int | None):
    """Fitted trees, whose nodes have a wrong child, as a file may hold them under a digest that is right."""
    from sklearn.ensemble import HistGradientBoostingRegressor

    found = HistGradientBoostingRegressor(max_iter=2).fit([[float(n)] for n in range(100)], range(100))
    for predictor in [one for iteration in found._predictors for one in iteration]:
        if child is not None:
            predictor.nodes["left"][:] = predictor.nodes["right"][:] = child
            predictor.nodes["is_leaf"][:] = 0
    return found


def test_a_good_version_is_tried_once(registry, trials, tried, model_class, tmp_path):
    version = save(registry, model_class, trees(None))
    trials.require("length", version, model_class)
    Trials(registry, tmp_path / "tried").require("length", version, model_class)
    assert tried == [b"passed"]


def test_a_version_that_crashes_native_code_is_in_quarantine(registry, trials, tried, model_class, tmp_path):
    """For this process and its successors, until somebody removes the file that the message names."""
    version = save(registry, model_class, trees(2**31 - 1))
    assert registry.open("length", version, model_class=model_class).version == version
    for one in (trials, Trials(registry, tmp_path / "tried")):
        with pytest.raises(VersionInQuarantine, match=r"`length` v1 ended the process that tried it \(signal \d+\)"):
            one.require("length", version, model_class)
    assert len(tried) == 2  # Once more, in case the machine was short of memory.
    [file] = (tmp_path / "tried").iterdir()
    file.write_bytes(b"passed")
    trials.require("length", version, model_class)


def test_a_version_that_never_answers_is_in_quarantine(registry, trials, model_class, monkeypatch):
    """Nodes in a circle."""
    monkeypatch.setattr(trial, "MAX_CPU_SECONDS", 8)
    version = save(registry, model_class, trees(0))
    with pytest.raises(VersionInQuarantine, match="signal"):
        trials.require("length", version, model_class)


def test_a_version_without_enough_memory_is_not_served(registry, trials, model_class, monkeypatch):
    monkeypatch.setattr(trial, "MAX_MEMORY_BYTES", 64 * 1024**2)
    version = save(registry, model_class, trees(None))
    with pytest.raises(CorruptModel):
        trials.require("length", version, model_class)


def test_an_exception_for_the_row_is_no_reason(registry, trials, model_class):
    """It would fail a request, not a worker."""
    marking = sys.modules["broken_models"].Marking
    trials.require("length", save(registry, model_class, trees(None)), marking)


def test_what_can_be_checked_without_a_child_is(registry, trials, tried, model_class):
    version = save(registry, model_class, trees(None))
    (registry.path / "length" / version / "model.skops").write_bytes(b"other")
    with pytest.raises(CorruptModel, match="has sha256"):
        trials.require("length", version, model_class)
    assert tried == []


def test_a_version_that_a_child_can_not_build_is_refused_and_asked_for_once(
    registry, trials, model_class, monkeypatch, tmp_path
):
    version = save(registry, model_class, trees(None))
    folder = registry.path / "length" / version
    content = (folder / "model.skops").read_bytes().replace(b"max_iter", b"max_itex")
    manifest = json.loads((folder / "manifest.json").read_bytes())
    manifest["files"]["model.skops"] = {"sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    (folder / "model.skops").write_bytes(content)
    monkeypatch.setattr(registry, "check", lambda *_: content)
    calls = []
    original = trial._try
    monkeypatch.setattr(trial, "_try", lambda *task: calls.append(task) or original(*task))
    for _ in range(2):
        with pytest.raises(CorruptModel):
            trials.require("length", version, model_class)
    assert len(calls) == 1
    assert not (tmp_path / "tried").exists()


def test_a_class_of_a_notebook_is_not_tried(registry, trials, doubler):
    local = type("Local", (type(doubler),), {"__module__": "__main__"})
    model = local()
    model.estimator = doubler.estimator
    version = registry.save(model, metrics={"r2": 1.0}, training_data_sha256="", seed=1)
    trials.require("doubler", version, local)


def test_a_folder_that_can_not_be_written_repeats_the_trial(registry, tried, model_class, tmp_path):
    (tmp_path / "file").write_text("")
    version = save(registry, model_class, trees(None))
    for _ in range(2):
        Trials(registry, tmp_path / "file" / "tried").require("length", version, model_class)
    assert tried == [b"passed", b"passed"]


class Inner(msgspec.Struct):
    x: Annotated[float, Meta(gt=0, lt=0.5)]


class Everything(msgspec.Struct, forbid_unknown_fields=True):
    choice: Literal["b", "a"]
    whole: Annotated[int, Meta(ge=3)]
    above: Annotated[float, Meta(gt=2)]
    below: Annotated[float, Meta(lt=-1)]
    text: Annotated[str, Meta(min_length=3)]
    several: Annotated[list[Inner], Meta(min_length=2)]
    pair: tuple[int, str]
    flag: bool
    nested: dict[str, int]
    anything: Any
    perhaps: Annotated[float, Meta(le=-5)] | None
    default: int = 7


def test_a_sample_fits_the_schema():
    sample = sample_request(Everything)
    assert "default" not in sample
    assert msgspec.json.decode(msgspec.json.encode(sample), type=Everything).several[1].x < 0.5
