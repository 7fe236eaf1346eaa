"""Contract checks open a saved model in a fresh process if its class can be imported there."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from machine_learning_engineering.testing import fresh_process
from machine_learning_engineering.testing.check_model import CheckFailed, prepare, run_check
from machine_learning_engineering.testing.prediction_checks import check_save_and_open


@pytest.fixture
def models(monkeypatch):
    """The models of `broken_models.py`, as a module that a fresh process can import."""
    monkeypatch.syspath_prepend(Path(__file__).parent / "support")
    yield import_module("broken_models")
    del sys.modules["broken_models"]


def test_a_model_that_its_estimator_is_all_of_answers_there_too(models, monkeypatch):
    found = []
    predict = fresh_process.predict
    monkeypatch.setattr(fresh_process, "predict", lambda *task: found.append(predict(*task)) or found[0])
    case = prepare(models.Length)
    run_check(check_save_and_open, case)
    here = [{"feet": pytest.approx(one.feet)} for one in case.predict(case.rows)]
    assert found == [here]


@pytest.mark.parametrize(
    ("name", "problem"),
    [("ForgetfulModule", r"KeyError: 'mean'"), ("Marking", "RuntimeError: nobody has fitted me")],
)
def test_what_fitting_leaves_in_a_module_or_a_class_is_not_there(models, name, problem):
    """Even where it is the same for every fit, so that no other fit in this process would show it."""
    case = prepare(getattr(models, name))
    with pytest.raises(CheckFailed, match=f"the saved model can't predict in a fresh process: {problem}"):
        run_check(check_save_and_open, case)


def test_other_answers_there_are_seen(models):
    """A default takes the place of what is missing."""
    with pytest.raises(CheckFailed, match="before saving and in a fresh process, a row gets"):
        run_check(check_save_and_open, prepare(models.Defaulting))


def test_a_class_that_only_this_process_knows_is_asked_here(models, monkeypatch, tmp_path):
    module = ModuleType("a_module_that_only_this_process_has")
    module.Length = type("Length", (models.Length,), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert fresh_process.predict(module.Length, tmp_path, "v1", []) is None


def test_no_process_is_started_for_a_class_that_has_no_name_to_be_imported_by(models, monkeypatch, tmp_path):
    class Local(models.Length):
        pass

    monkeypatch.setattr(subprocess, "run", None)
    for one in (Local, type("Unnamed", (models.Length,), {"__module__": "__main__"})):
        assert fresh_process.predict(one, tmp_path, "v1", []) is None
