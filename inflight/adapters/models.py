"""The models that commands know by name."""

from collections.abc import Iterable

import typer

from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel


def known_models(names: Iterable[str] = ()) -> dict[str, type[MLEModel]]:
    """The class of every model by its name.

    Raises:
        typer.BadParameter: one of `names` is unknown; the message lists the known ones.
    """
    from model.catalog import available

    classes = available()
    if unknown := [name for name in names if name not in classes]:
        raise typer.BadParameter(f"no model is named {', '.join(unknown)}: there are {', '.join(sorted(classes))}")
    return classes


def require_openable(registry: Registry, name: str, version: str) -> None:
    """Reject a version that a worker could not open: another schema or scikit-learn, or types that are not trusted.

    Of a model whose code is not installed here, the registry verifies the files only.

    Raises:
        RegistryError: it can't be opened.
    """
    if (model_class := known_models().get(name)) is not None:
        registry.open(name, version, model_class=model_class)
