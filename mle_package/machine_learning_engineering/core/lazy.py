"""Lazy re-exports of a package (PEP 562), listed in its type stub."""

import ast
from collections.abc import Callable
from importlib import import_module
from pathlib import Path
from typing import Any


def lazy_exports(package: str, init: str) -> tuple[list[str], Callable[[str], Any]]:
    """Build `__all__` and a module `__getattr__` from the imports in a package's ``__init__.pyi``.

    The stub is the only list of public names: type checkers read it, and so does this function. The submodule that
    defines a name is imported when the name is first used.

    Args:
        package: Name of the package.
        init: ``__file__`` of the package.
    """
    stub = ast.parse(Path(init).with_suffix(".pyi").read_text(encoding="utf-8"))
    imports = [node for node in stub.body if isinstance(node, ast.ImportFrom)]
    modules = {alias.name: node.module or "" for node in imports for alias in node.names}

    def attribute(name: str) -> Any:
        if name not in modules:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        return getattr(import_module(modules[name]), name)

    return list(modules), attribute
