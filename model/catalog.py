"""Discovery of models: each sub-package of `model`, and entry points of installed packages."""

import importlib
import pkgutil
from importlib.metadata import EntryPoint, entry_points

import model
from machine_learning_engineering import MLEModel

ENTRY_POINTS = "machine_learning_engineering.models"


def available() -> dict[str, type[MLEModel]]:
    """Model classes by name. A sub-package of `model` exports its class as `MODEL`.

    This does not import scikit-learn, which is loaded when a model is trained or opened.

    Raises:
        ImportError: The model of an installed package can't be imported. The message names the package.
        ValueError: Two models have the same name.
        TypeError: A model is not a subclass of `MLEModel`, or has no name.
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
            raise TypeError(f'{source}: {cls.__name__}.name is not set: it must be a string such as "diamonds"')
        if cls.name in found:
            raise ValueError(f"{source} gives a second model named `{cls.name}`: rename one of the two")
        found[cls.name] = cls
    return found


def _load(entry: EntryPoint) -> object:
    try:
        return entry.load()
    except Exception as error:  # Any error of the import must name the package.
        package = "an installed package" if entry.dist is None else f"the package {entry.dist.name}"
        raise ImportError(
            f"{package} offers the model `{entry.name}`, but {entry.value} can't be imported "
            f"({type(error).__name__}: {error}): repair or uninstall it"
        ) from error
