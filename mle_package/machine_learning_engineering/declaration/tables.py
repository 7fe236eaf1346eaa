"""Tables of a TOML text as structs. Errors name the line, the field, what it accepts, and the name that was meant."""

import difflib
import tomllib
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec
from msgspec import Struct

from machine_learning_engineering.core.validation import parse_decoder_message
from machine_learning_engineering.declaration.lines import line_of
from machine_learning_engineering.declaration.problem import DeclarationProblem

__all__ = ["MAX_BYTES", "located", "nearest", "parse", "section", "told"]

MAX_BYTES = 1024**2
"""Size of the largest text that is read."""
_StructT = TypeVar("_StructT", bound=Struct)


def parse(content: bytes, name: str, what: str) -> dict[str, Any]:
    """Parse a TOML text.

    Args:
        name: Of the file, for messages.
        what: The kind of file, such as ``a declaration``.

    Raises:
        ValueError: It is none, or larger than `MAX_BYTES`. The message names the file.
    """
    if len(content) > MAX_BYTES:
        raise ValueError(f"{name} has {len(content):,} bytes; {what} has at most {MAX_BYTES:,}")
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not TOML: byte {error.start} is not UTF-8") from error
    except (RecursionError, ValueError) as error:
        raise ValueError(f"{name} is not TOML: {error!s:.500}") from error


def located(problem: DeclarationProblem, content: bytes, name: str) -> str:
    """A problem with the file and the line that it is in."""
    line = line_of(content.decode(errors="replace"), problem.path)
    where = name if line is None else f"{name}, line {line}"
    return f"{where}: {problem}"


def nearest(name: str, known: Iterable[str]) -> str:
    """A hint at the known name that is most similar; empty without one."""
    found = difflib.get_close_matches(name, list(known), 1)
    return f": did you mean `{found[0]}`?" if found else ""


def section(table: Any, kind: type[_StructT], path: tuple[str, ...]) -> _StructT:
    """Convert a table.

    Args:
        path: Its keys from the top.

    Raises:
        DeclarationProblem: A field is unknown, missing or no valid value.
    """
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
    return DeclarationProblem((*path, name), f"must be {_accepted(kind, name)}, not {told(value)}")


def _member(value: Any, mapping: Any) -> str | None:
    accepted = mapping.__args__[1]
    try:
        msgspec.convert(value, accepted)
    except msgspec.ValidationError:
        schema = msgspec.json.schema(accepted)
        return f"must be {_described(schema)}, not {told(value)}"
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
_LIMITS = {"minimum": "of at least", "exclusiveMinimum": "above", "maximum": "at most", "exclusiveMaximum": "below"}


def _described(schema: Mapping[str, Any]) -> str:
    if choices := schema.get("enum"):
        return "one of " + ", ".join(map(told, choices))
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
    limits = [f"{word} {schema[name]:,}" for name, word in _LIMITS.items() if name in schema]
    return " ".join((_KINDS.get(kind, "a valid value"), " and ".join(limits))).rstrip()


def told(value: Any) -> str:
    """A value as TOML writes it, shortened; kinds of values for all that is long."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, str):
        return f'"{value}"' if len(value) <= 60 else "a long text"
    if isinstance(value, int | float):
        return str(value) if abs(value) < 10**18 else "a very large number"
    return "a list" if isinstance(value, list) else "a table" if isinstance(value, dict) else "a date or time"
