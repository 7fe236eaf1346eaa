"""The models that a command can be asked for."""

from collections.abc import Iterable

import typer

from machine_learning_engineering.sdk import MLEModel


def known_models(asked: Iterable[str] = ()) -> dict[str, type[MLEModel]]:
    """The class of every model by its name.

    Raises:
        typer.BadParameter: one that is asked for is not among them; the message names those that are.
    """
    from model.catalog import available

    classes = available()
    if unknown := [name for name in asked if name not in classes]:
        raise typer.BadParameter(f"no model is named {', '.join(unknown)}: there are {', '.join(sorted(classes))}")
    return classes
