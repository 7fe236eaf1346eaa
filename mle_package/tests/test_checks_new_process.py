"""The contract kit asks a saved model in a new process, where its class can be imported."""

import subprocess
import sys
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from machine_learning_engineering.testing import fresh_process as new_process
from machine_learning_engineering.testing.check_model import CheckFailed, check_law, prepare
from machine_learning_engineering.testing.prediction_checks import a_saved_model_answers_the_same


@pytest.fixture
def models(monkeypatch):
    """The models of `broken_models.py`, as a module that a new process finds."""
    monkeypatch.syspath_prepend(Path(__file__).parent)
    yield import_module("broken_models")
    del sys.modules["broken_models"]


def test_a_model_that_its_estimator_is_all_of_answers_there_too(models, monkeypatch):
    answered = []
    ask = new_process.answers
    monkeypatch.setattr(new_process, "answers", lambda *question: answered.append(ask(*question)) or answered[0])
    subject = prepare(models.Length)
    check_law(a_saved_model_answers_the_same, subject)
    here = [{"feet": pytest.approx(one.feet)} for one in subject.answers(subject.rows)]
    assert answered == [here]


@pytest.mark.parametrize(
    ("name", "seen"),
    [("ForgetfulModule", r"KeyError: 'mean'"), ("Marking", "RuntimeError: nobody has fitted me")],
)
def test_what_fitting_leaves_in_a_module_or_a_class_is_not_there(models, name, seen):
    """Even where it is the same for every fit, so that no other fit in this process would show it."""
    subject = prepare(getattr(models, name))
    with pytest.raises(CheckFailed, match=f"in a new process the saved model does not answer: {seen}"):
        check_law(a_saved_model_answers_the_same, subject)


def test_other_answers_there_are_seen(models):
    """A default takes the place of what is missing."""
    with pytest.raises(CheckFailed, match="before saving and in a new process, a row gets"):
        check_law(a_saved_model_answers_the_same, prepare(models.Defaulting))


def test_a_class_that_only_this_process_knows_is_asked_here(models, monkeypatch, tmp_path):
    module = ModuleType("a_module_that_only_this_process_has")
    module.Length = type("Length", (models.Length,), {"__module__": module.__name__})
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert new_process.answers(module.Length, tmp_path, "v1", []) is None


def test_no_process_is_started_for_a_class_that_has_no_name_to_be_imported_by(models, monkeypatch, tmp_path):
    class Local(models.Length):
        pass

    monkeypatch.setattr(subprocess, "run", None)
    for one in (Local, type("Unnamed", (models.Length,), {"__module__": "__main__"})):
        assert new_process.answers(one, tmp_path, "v1", []) is None
