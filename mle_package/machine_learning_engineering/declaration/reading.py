"""Reading a declaration from TOML. Errors name the file, the line, the field and the fix."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from machine_learning_engineering.core.validation import parse_decoder_message
from machine_learning_engineering.declaration import checking
from machine_learning_engineering.declaration.lines import line_of
from machine_learning_engineering.declaration.problem import DeclarationProblem
from machine_learning_engineering.declaration.schema import (
    Declaration,
    FeatureDeclaration,
    ModelDeclaration,
    ResultDeclaration,
    SourceDeclaration,
)

__all__ = ["DECLARATION_FILE", "InvalidDeclaration", "located", "nearest", "parse_declaration"]

DECLARATION_FILE = "declaration.toml"
"""Name of the file in a version of the registry."""
MAX_BYTES = 1024**2
"""Size of the largest declaration that is read."""
_SECTIONS: dict[str, type[Struct]] = {
    "model": ModelDeclaration,
    "source": SourceDeclaration,
    "result": ResultDeclaration,
}
_StructT = TypeVar("_StructT", bound=Struct)


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
    if len(content) > MAX_BYTES:
        raise InvalidDeclaration(f"{name} has {len(content):,} bytes; a declaration has at most {MAX_BYTES:,}")
    try:
        found = tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise InvalidDeclaration(f"{name} is not TOML: byte {error.start} is not UTF-8") from error
    except (tomllib.TOMLDecodeError, RecursionError, ValueError) as error:
        raise InvalidDeclaration(f"{name} is not TOML: {error!s:.500}") from error
    try:
        declaration = _convert(found)
        checking.check(declaration)
    except DeclarationProblem as problem:
        raise located(problem, content, name) from problem
    return declaration


def located(problem: DeclarationProblem, content: bytes, name: str = DECLARATION_FILE) -> InvalidDeclaration:
    """The error that tells in which line of a file a problem is."""
    line = line_of(content.decode(errors="replace"), problem.path)
    where = name if line is None else f"{name}, line {line}"
    return InvalidDeclaration(f"{where}: {problem}")


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that is most similar; empty without one."""
    found = difflib.get_close_matches(name, list(known), 1)
    return f": did you mean `{found[0]}`?" if found else ""


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
        name: _section(found[name], kind, (name,)) for name, kind in _SECTIONS.items() if name in found
    }
    features = {name: _feature(name, table) for name, table in found["features"].items()}
    return Declaration(features=features, **sections)


def _feature(name: str, table: Any) -> FeatureDeclaration:
    path = ("features", name)
    if isinstance(table, str):
        raise DeclarationProblem(path, f'must be a table: write {{ type = "{table:.40}" }}')
    return _section(table, FeatureDeclaration, path)


def _section(table: Any, kind: type[_StructT], path: tuple[str, ...]) -> _StructT:
    try:
        return msgspec.convert(table, kind)
    except msgspec.ValidationError as error:
        raise _explained(error, table, kind, path) from error


def _explained(
    error: msgspec.ValidationError, table: Any, kind: type[Struct], path: tuple[str, ...]
) -> DeclarationProblem:
    if not isinstance(table, dict):
        return DeclarationProblem(path, "must be a table of fields")
    found = parse_decoder_message(error)
    fields = {field.encode_name: field for field in msgspec.structs.fields(kind)}
    if found.unknown is not None:
        hint = nearest(found.unknown, fields) or f": there are {', '.join(fields)}"
        return DeclarationProblem((*path, found.unknown), f"there is no such field{hint}")
    if found.missing is not None:
        return DeclarationProblem((*path, found.missing), f"is missing: it must be {_accepted(kind, found.missing)}")
    name = found.path.partition(".")[0].partition("[")[0]
    value = table.get(name)
    if isinstance(value, dict) and "[...]" in found.path:
        # The decoder does not tell which member of a table it is.
        for member, one in value.items():
            if (problem := _member(one, fields[name].type)) is not None:
                return DeclarationProblem((*path, name, member), problem)
    return DeclarationProblem((*path, name), f"must be {_accepted(kind, name)}, not {_told(value)}")


def _member(value: Any, mapping: Any) -> str | None:
    accepted = mapping.__args__[1]
    try:
        msgspec.convert(value, accepted)
    except msgspec.ValidationError:
        schema = msgspec.json.schema(accepted)
        return f"must be {_described(schema)}, not {_told(value)}"
    return None


def _accepted(kind: type[Struct], name: str) -> str:
    schema = msgspec.json.schema(kind)
    definition = schema.get("$defs", {}).get(kind.__name__, schema)
    return _described(definition.get("properties", {}).get(name, {}))


_KINDS = {
    "string": "a text",
    "boolean": "true or false",
    "integer": "an integer",
    "number": "a number",
    "array": "a list",
    "object": "a table",
}


def _described(schema: Mapping[str, Any]) -> str:
    if choices := schema.get("enum"):
        return "one of " + ", ".join(map(_told, choices))
    if alternatives := schema.get("anyOf"):
        return " or ".join(dict.fromkeys(map(_described, alternatives)))
    kind = schema.get("type", "")
    if isinstance(kind, list):
        return " or ".join(dict.fromkeys(_KINDS.get(str(one), "null") for one in kind))
    if kind == "array":
        size = schema.get("minItems")
        count = f" of {size}" if size is not None and size == schema.get("maxItems") else ""
        inner = schema.get("items") or next(iter(schema.get("prefixItems", ())), None)
        return f"a list{count}" + (f", each {_described(inner)}" if isinstance(inner, dict) else "")
    return _KINDS.get(kind, "a valid value")


def _told(value: Any) -> str:
    """A value as TOML writes it, shortened; kinds of values for all that is long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else "a long text"
    if isinstance(value, int | float):
        return str(value) if abs(value) < 10**18 else "a very large number"
    return "a list" if isinstance(value, list) else "a table" if isinstance(value, dict) else "a date or time"
