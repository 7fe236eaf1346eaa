"""Reading a declaration from TOML. Errors name the file, the line, the field and the fix."""

from collections.abc import Mapping
from typing import Any

from msgspec import Struct

from machine_learning_engineering.declaration import checking, tables
from machine_learning_engineering.declaration.problem import DeclarationProblem
from machine_learning_engineering.declaration.schema import (
    Declaration,
    FeatureDeclaration,
    ModelDeclaration,
    ResultDeclaration,
    SourceDeclaration,
)
from machine_learning_engineering.declaration.tables import nearest, section

__all__ = ["DECLARATION_FILE", "InvalidDeclaration", "located", "nearest", "parse_declaration"]

DECLARATION_FILE = "declaration.toml"
"""Name of the file in a version of the registry."""
_SECTIONS: dict[str, type[Struct]] = {
    "model": ModelDeclaration,
    "source": SourceDeclaration,
    "result": ResultDeclaration,
}


class InvalidDeclaration(ValueError):
    """A declaration can't be used. The message names the file, the line, the field and the fix."""


def parse_declaration(content: bytes, name: str = DECLARATION_FILE) -> Declaration:
    """Read a declaration.

    Args:
        content: TOML text.
        name: Name of the file, for messages.

    Raises:
        InvalidDeclaration: It is not TOML, does not fit the schema, or contradicts itself.
    """
    try:
        found = tables.parse(content, name, "a declaration")
    except ValueError as error:
        raise InvalidDeclaration(str(error)) from error
    try:
        declaration = _convert(found)
        checking.check(declaration)
    except DeclarationProblem as problem:
        raise located(problem, content, name) from problem
    return declaration


def located(problem: DeclarationProblem, content: bytes, name: str = DECLARATION_FILE) -> InvalidDeclaration:
    """The error that tells in which line of a file a problem is."""
    return InvalidDeclaration(tables.located(problem, content, name))


def _convert(found: Mapping[str, Any]) -> Declaration:
    known = ("model", "features", "source", "result")
    for name in found:
        if name not in known:
            hint = nearest(name, known) or ": it has [model], [features], [source] and [result]"
            raise DeclarationProblem((name,), f"a declaration has no table of this name{hint}")
    for name in ("model", "features"):
        if name not in found:
            raise DeclarationProblem((), f"the table [{name}] is missing")
    for name, table in found.items():
        if not isinstance(table, dict):
            raise DeclarationProblem((name,), f"must be a table: write [{name}] and its fields below it")
    sections: dict[str, Any] = {
        name: section(found[name], kind, (name,)) for name, kind in _SECTIONS.items() if name in found
    }
    features = {name: _feature(name, table) for name, table in found["features"].items()}
    return Declaration(features=features, **sections)


def _feature(name: str, table: Any) -> FeatureDeclaration:
    path = ("features", name)
    if isinstance(table, str):
        raise DeclarationProblem(path, f'must be a table: write {{ type = "{table:.40}" }}')
    return section(table, FeatureDeclaration, path)
