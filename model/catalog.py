"""Discovery of models: each sub-package of `model`, entry points of installed packages, and adopted models.

A package that can't be imported, or whose model is wrong, is left out and reported by name: the other models go on.
"""

import importlib
import logging
import pkgutil
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from importlib.metadata import entry_points
from typing import NamedTuple, cast

import model
from machine_learning_engineering import MLEModel
from machine_learning_engineering.adoption.catalog import find_adopted
from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.settings import load_settings

logger = logging.getLogger(__name__)

ENTRY_POINTS = "machine_learning_engineering.models"


class Catalog(NamedTuple):
    """Model classes by name, and why others were left out, by the name of their package or entry point."""

    models: dict[str, type[MLEModel]]
    broken: dict[str, str]


def available() -> dict[str, type[MLEModel]]:
    """Model classes by name. A sub-package of `model` exports its class as `MODEL`.

    Models that can't be used are left out, with a warning for each. This does not import scikit-learn, which is loaded
    when a model is trained or opened.
    """
    found = discover()
    for problem in found.broken.values():
        logger.warning("a model is left out: %s", problem)
    return found.models


def discover() -> Catalog:
    """Find all models, and the reasons why some can't be used."""
    found = Catalog({}, {})
    for name, source, load in _sources(set(load_settings().models)):
        try:
            cls = load()
        except (Exception, SystemExit) as error:  # The import of someone else's package may raise anything.
            found.broken[name] = f"{source} can't be imported ({_reason(error)}): repair or uninstall it"
            continue
        problem = _problem(cls, source, found.models)
        if problem is None:
            model_class = cast(type[MLEModel], cls)
            found.models[model_class.name] = model_class
        else:
            found.broken[name] = problem
    return _with_adopted(found)


def _with_adopted(found: Catalog) -> Catalog:
    """Add the models that the registry has as declarations; a class that is written goes before one of its name."""
    adopted = find_adopted(Registry(load_settings().registry_dir))
    found.models.update({name: cls for name, cls in adopted.models.items() if name not in found.models})
    found.broken.update({name: problem for name, problem in adopted.broken.items() if name not in found.models})
    return found


def _sources(allowed: set[str]) -> Iterator[tuple[str, str, Callable[[], object]]]:
    """Name, description and loader of each model. Entry points that are not allowed are not imported."""
    for module in pkgutil.iter_modules(model.__path__, prefix="model."):
        if module.ispkg:
            yield module.name.removeprefix("model."), f"package {module.name}", partial(_load_package, module.name)
    for entry in entry_points(group=ENTRY_POINTS):
        distribution = None if entry.dist is None else entry.dist.name
        if allowed and allowed.isdisjoint({entry.name, distribution}):
            continue
        package = "an installed package" if distribution is None else f"the package {distribution}"
        yield entry.name, f"{package} offers the model `{entry.name}`, but entry point {entry.value}", entry.load


def _load_package(name: str) -> object:
    return getattr(importlib.import_module(name), "MODEL", None)


def _problem(cls: object, source: str, known: Iterable[str]) -> str | None:
    """Why a loaded object is not a further model; None if it is one."""
    if not (isinstance(cls, type) and issubclass(cls, MLEModel)):
        return f"{source} must give a subclass of MLEModel as MODEL, not {cls!r}"
    if not isinstance(getattr(cls, "name", None), str):
        return f'{source}: {cls.__name__}.name is not set: it must be a string such as "diamonds"'
    if cls.name in known:
        return f"{source} gives a second model named `{cls.name}`: rename one of the two"
    return None


def _reason(error: BaseException) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name:
        return f"the module `{error.name}` is not installed"
    return f"{type(error).__name__}: {error}"
