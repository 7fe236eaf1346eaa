"""Optional dependencies, and the command that installs them."""

import json
from importlib import import_module
from importlib.metadata import Distribution, PackageNotFoundError
from importlib.util import find_spec
from typing import Any

DISTRIBUTIONS = ("inflight-streaming", "inflight-streaming-sdk")
"""What this code may be installed as: with the product, or alone. Both have the same extras."""


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


def install_command(extra: str) -> str:
    """Tell how to install an extra where this copy came from.

    A name is given only to a copy that came by name: on a package index, the name of a copy that came from elsewhere
    could be anybody's.
    """
    for name in DISTRIBUTIONS:
        try:
            distribution = Distribution.from_name(name)
        except PackageNotFoundError:
            continue
        # Written by installers for whatever does not come from an index: packaging.python.org, "direct URL origin".
        origin = distribution.read_text("direct_url.json")
        if origin is None:
            return f"pip install '{name}[{extra}]'"
        if "archive_info" in (found := json.loads(origin)):
            return f"pip install '{name}[{extra}] @ {found['url']}'"
        break
    return f"pip install '.[{extra}]' in the repository"


def _missing(package: str, extra: str) -> ImportError:
    return ImportError(f"{package} is not installed: {install_command(extra)}", name=package)
