"""A new model is one new folder: `inflight train` runs the same pipeline for it, and the same faults are named."""

import shutil
from pathlib import Path

import pytest

import model as model_package
from machine_learning_engineering.registry.registry import Registry

EMERALDS = '''
"""The weight of an emerald from its length."""

from collections.abc import Sequence

import msgspec
import numpy as np

from machine_learning_engineering.core.candidate import Candidate
from machine_learning_engineering.evaluation.metrics import regression_metrics
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.sdk import MLEModel


class Features(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    length: float


class Prediction(msgspec.Struct, frozen=True):
    carat: float


def line(params, seed):
    from sklearn.linear_model import LinearRegression

    if params.get("broken"):
        raise MemoryError("no room for a line")
    return LinearRegression()


def tree(params, seed):
    from sklearn.tree import DecisionTreeRegressor

    if params.get("broken"):
        raise MemoryError("no room for a tree")
    return DecisionTreeRegressor(max_depth=1, random_state=seed)


class Emeralds(MLEModel):
    name = "emeralds"
    Features = Features
    Prediction = Prediction
    primary_metric = "r2"
    trusted_types = frozenset({"sklearn.tree._tree.Tree"})

    @classmethod
    def examples(cls, data_dir=None):
        return (Example({"length": n / 10}, n / 4) for n in range(100))

    def new_estimator(self, seed):
        return line({}, seed)

    def candidates(self):
        return [Candidate("line", line, LINE), Candidate("tree", tree, TREE)]

    def build_inputs(self, rows: Sequence[Features]):
        return np.array([[row.length] for row in rows]).reshape(len(rows), 1)

    def predict(self, rows):
        return [Prediction(value) for value in self.estimator.predict(self.build_inputs(rows)).tolist()] if rows else []

    def evaluate(self, predictions, labels):
        return regression_metrics([prediction.carat for prediction in predictions], labels)


LINE = {}
TREE = {}
MODEL = Emeralds
'''


@pytest.fixture
def emeralds(shell, tmp_path) -> Path:
    """The code of a model that is one new folder beside the others; nothing else is changed."""
    [folder] = model_package.__path__
    shutil.copytree(folder, tmp_path / "model", ignore=shutil.ignore_patterns("__pycache__"))
    path = tmp_path / "model" / "emeralds" / "__init__.py"
    path.parent.mkdir()
    path.write_text(EMERALDS)
    # A module in the working folder comes first.
    shell.environment["PYTHONPATH"] = str(tmp_path)
    return path


def test_a_new_folder_is_a_new_model_with_the_same_pipeline(shell, emeralds):
    [entry] = shell.entries("emeralds")
    assert [model["candidate"] for model in entry["models"]] == ["line", "tree"]
    assert entry["metrics"]["r2"] == pytest.approx(1.0)
    assert list(entry["layers"]) == ["bronze", "silver", "gold"]
    assert entry["promoted"]
    assert "there are diamonds, emeralds, " in shell.train("rubies").stderr


def test_a_failing_fit_is_named_and_left_out(shell, emeralds):
    shell.entries("emeralds")
    emeralds.write_text(EMERALDS.replace("TREE = {}", 'TREE = {"broken": True}'))
    [entry] = shell.entries("emeralds")
    assert [model["candidate"] for model in entry["models"]] == ["line"]
    [failed] = entry["failed_candidates"]
    assert failed["candidate"] == "tree"
    assert "MemoryError" in failed["error"]


def test_the_champion_stays_where_every_fit_fails(shell, emeralds):
    [entry] = shell.entries("emeralds")
    emeralds.write_text(EMERALDS.replace("= {}", '= {"broken": True}'))
    done = shell.train("emeralds")
    assert done.returncode == 1
    assert "emeralds was not trained, its champion stays:\n" in done.stderr
    assert "candidate tree failed: MemoryError: no room for a tree" in done.stderr
    assert Registry(shell.home / "registry").champions() == {"emeralds": entry["version"]}
