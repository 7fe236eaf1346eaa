"""The models that commands know by name."""

from collections.abc import Iterable

import typer

from machine_learning_engineering.registry.registry import Registry
from machine_learning_engineering.sdk import MLEModel


def known_models(names: Iterable[str] = ()) -> dict[str, type[MLEModel]]:
    """The class of every model by its name. Models that can't be used are left out and reported on standard error.

    Raises:
        typer.BadParameter: one of `names` is unknown or can't be used; the message lists the known ones.
    """
    from model.catalog import discover

    classes, broken = discover()
    names = list(names)
    if unknown := [name for name in names if name not in classes]:
        if reasons := [broken[name] for name in unknown if name in broken]:
            raise typer.BadParameter("; ".join(reasons))
        raise typer.BadParameter(f"no model is named {', '.join(unknown)}: there are {', '.join(sorted(classes))}")
    if not names:
        for problem in broken.values():
            typer.echo(f"a model is left out: {problem}", err=True)
    return classes


def broken_models() -> dict[str, str]:
    """Why models that are installed can't be used, by name."""
    from model.catalog import discover

    return discover().broken


def require_openable(registry: Registry, name: str, version: str) -> None:
    """Reject a version that a worker could not open, or that ends the process that predicts with it.

    Of a model whose code is not installed here, the registry verifies the files only.

    Raises:
        RegistryError: it can't be opened.
    """
    from machine_learning_engineering.registry.trial import Trials
    from machine_learning_engineering.settings import load_settings
    from model.catalog import discover

    if (model_class := discover().models.get(name)) is not None:
        Trials(registry, load_settings().trials_dir).require(name, version, model_class)
        registry.open(name, version, model_class=model_class)
