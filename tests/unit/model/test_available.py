"""Models are found by themselves."""

import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest

from machine_learning_engineering.sdk import MLEModel
from model import catalog
from model.diamonds.model import Diamonds
from model.titanic.model import Titanic


class Elsewhere(MLEModel):
    """A model of another package."""

    name = "elsewhere"


class Nameless(MLEModel):
    """Not finished."""


NOT_A_MODEL = object()


def install(monkeypatch, attribute: str) -> None:
    entry = EntryPoint("any", f"{__name__}:{attribute}", catalog.ENTRY_POINTS)
    monkeypatch.setattr(catalog, "entry_points", lambda group: [entry] if group == entry.group else [])


def test_each_folder_is_a_model_by_the_name_of_its_class():
    found = catalog.available()
    assert {"diamonds": Diamonds, "titanic": Titanic}.items() <= found.items()
    folders = {file.parent.name for file in Path(catalog.__file__).parent.glob("*/__init__.py")}
    assert {cls.__module__.split(".")[1] for cls in found.values()} == folders


def test_an_installed_package_adds_its_model(monkeypatch):
    install(monkeypatch, "Elsewhere")
    assert catalog.available()["elsewhere"] is Elsewhere


def test_an_entry_point_that_is_no_model_is_named(monkeypatch):
    install(monkeypatch, "NOT_A_MODEL")
    with pytest.raises(TypeError, match=r"entry point .*NOT_A_MODEL must give a subclass of MLEModel"):
        catalog.available()


def test_a_model_without_a_name_is_named_by_its_class(monkeypatch):
    install(monkeypatch, "Nameless")
    with pytest.raises(TypeError, match=r"Nameless\.name is not set"):
        catalog.available()


def test_an_entry_point_that_can_not_be_imported_is_named(monkeypatch):
    install(monkeypatch, "Gone")
    with pytest.raises(ImportError, match=r"offers the model `any`, but .*:Gone can't be imported .*: repair or"):
        catalog.available()


def test_two_models_of_one_name_are_refused(monkeypatch):
    install(monkeypatch, "Diamonds")
    with pytest.raises(ValueError, match="second model named `diamonds`"):
        catalog.available()


def test_finding_models_loads_no_scikit_learn():
    heavy = "sys.exit('sklearn' in sys.modules or 'skops' in sys.modules)"
    code = f"import sys; from model import catalog; catalog.available(); {heavy}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
