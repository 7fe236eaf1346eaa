"""Optional dependencies."""

from importlib import import_module
from typing import Any


def require(module: str, extra: str) -> Any:
    """Import a module of an optional dependency when it is first needed.

    Args:
        module: Name of the module, such as ``pyarrow.parquet``.
        extra: Extra of this package that installs it.

    Raises:
        ImportError: The dependency is not installed. The message contains the command that installs it.
    """
    package = module.partition(".")[0]
    try:
        return import_module(module)
    except ModuleNotFoundError as error:
        if error.name != package:
            raise
        message = f'{package} is not installed: pip install "machine-learning-engineering[{extra}]"'
        raise ImportError(message, name=package) from error
