"""Optional dependencies."""

from importlib import import_module
from importlib.util import find_spec
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
        raise _missing(package, extra) from error


def check_installed(package: str, extra: str) -> None:
    """Fail early, without importing the package.

    Raises:
        ImportError: As `require`.
    """
    if find_spec(package) is None:
        raise _missing(package, extra)


def _missing(package: str, extra: str) -> ImportError:
    # A path and no name: on a package index, the name could be anybody's.
    fix = f'pip install "./mle_package[{extra}]" in the repository'
    return ImportError(f"{package} is not installed: {fix}", name=package)
