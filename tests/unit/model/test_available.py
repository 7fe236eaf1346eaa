"""Models are found by themselves."""

import re
import subprocess
import sys
from importlib.metadata import EntryPoint
from pathlib import Path

import pytest
import typer

from inflight.adapters.models import known_models
from machine_learning_engineering.sdk import MLEModel
from machine_learning_engineering.settings import KernelSettings
from model import catalog
from model.diamonds.model import Diamonds
from model.reviews.model import Reviews
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


def left_out(caplog) -> str:
    """What is said about the one model that is left out; the others are there."""
    found = catalog.available()
    assert {"diamonds": Diamonds, "titanic": Titanic, "reviews": Reviews} == found
    [record] = [record for record in caplog.records if record.name == catalog.__name__]
    return record.getMessage()


def test_a_package_that_lacks_a_module_is_named_with_it_and_the_others_go_on(monkeypatch, tmp_path, caplog):
    """A dependency that is not installed, of a folder here and of an installed package."""
    (tmp_path / "lacking").mkdir()
    (tmp_path / "lacking" / "__init__.py").write_text("import no_such_library.deep\n")
    monkeypatch.setattr(catalog.model, "__path__", [*catalog.model.__path__, str(tmp_path)])
    message = left_out(caplog)
    assert "package model.lacking can't be imported (the module `no_such_library` is not installed)" in message
    assert catalog.discover().broken.keys() == {"lacking"}
    with pytest.raises(typer.BadParameter, match="`no_such_library` is not installed"):
        known_models(["lacking"])
    assert known_models(["titanic"])["titanic"] is Titanic


def test_only_models_and_packages_of_the_setting_are_imported(monkeypatch):
    install(monkeypatch, "Elsewhere")
    for allowed, expected in ((("any",), True), (("others",), False), ((), True)):
        monkeypatch.setattr(catalog, "load_settings", lambda allowed=allowed: KernelSettings(models=allowed))
        assert ("elsewhere" in catalog.available()) is expected


def test_each_folder_is_a_model_by_the_name_of_its_class():
    found = catalog.available()
    assert {"diamonds": Diamonds, "titanic": Titanic}.items() <= found.items()
    folders = {file.parent.name for file in Path(catalog.__file__).parent.glob("*/__init__.py")}
    assert {cls.__module__.split(".")[1] for cls in found.values()} == folders


def test_an_installed_package_adds_its_model(monkeypatch):
    install(monkeypatch, "Elsewhere")
    assert catalog.available()["elsewhere"] is Elsewhere


def test_an_entry_point_that_is_no_model_is_named(monkeypatch, caplog):
    install(monkeypatch, "NOT_A_MODEL")
    assert re.search(r"entry point .*NOT_A_MODEL must give a subclass of MLEModel", left_out(caplog))


def test_a_model_without_a_name_is_named_by_its_class(monkeypatch, caplog):
    install(monkeypatch, "Nameless")
    assert "Nameless.name is not set" in left_out(caplog)


def test_an_entry_point_that_can_not_be_imported_is_named(monkeypatch, caplog):
    install(monkeypatch, "Gone")
    assert re.search(r"offers the model `any`, but .*:Gone can't be imported .*: repair or", left_out(caplog))


def test_two_models_of_one_name_are_refused(monkeypatch, caplog):
    install(monkeypatch, "Diamonds")
    assert "second model named `diamonds`" in left_out(caplog)


def test_finding_models_loads_no_scikit_learn():
    heavy = "sys.exit('sklearn' in sys.modules or 'skops' in sys.modules)"
    code = f"import sys; from model import catalog; catalog.available(); {heavy}"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
