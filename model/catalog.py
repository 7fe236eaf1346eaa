"""The models: each folder is one, found by itself; installed packages add theirs with an entry point."""

import importlib
import pkgutil
from importlib.metadata import EntryPoint, entry_points

import model
from machine_learning_engineering.sdk import MLEModel

ENTRY_POINTS = "machine_learning_engineering.models"


def available() -> dict[str, type[MLEModel]]:
    """Every model's class by its name: the sub-packages of `model`, which export theirs as `MODEL`, and entry points.

    Importing a model's class loads no scikit-learn: that is loaded when a model is trained or opened.

    Raises:
        ImportError: an installed package offers a model that can't be imported; the message names the package.
        ValueError: two models have the same name.
        TypeError: what was found is not a subclass of `MLEModel`, or has no name.
    """
    found: dict[str, type[MLEModel]] = {}
    sources = [
        (f"package {module.name}", getattr(importlib.import_module(module.name), "MODEL", None))
        for module in pkgutil.iter_modules(model.__path__, prefix="model.")
        if module.ispkg
    ]
    sources += [(f"entry point {entry.value}", _load(entry)) for entry in entry_points(group=ENTRY_POINTS)]
    for source, cls in sources:
        if not (isinstance(cls, type) and issubclass(cls, MLEModel)):
            raise TypeError(f"{source} must give a subclass of MLEModel as MODEL, not {cls!r}")
        if not isinstance(getattr(cls, "name", None), str):
            raise TypeError(f'{source}: {cls.__name__}.name is not set: it must be a text such as "diamonds"')
        if cls.name in found:
            raise ValueError(f"{source} gives a second model named `{cls.name}`: rename one of the two")
        found[cls.name] = cls
    return found


def _load(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except Exception as error:  # Whatever the package does when it is imported, it is to be known by its name.
        package = "an installed package" if entry.dist is None else f"the package {entry.dist.name}"
        raise ImportError(
            f"{package} offers the model `{entry.name}`, but {entry.value} can't be imported "
            f"({type(error).__name__}: {error}): repair or uninstall it"
        ) from error
