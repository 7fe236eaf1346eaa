"""Rows, Structs or JSON objects, as columns of JSON values."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct


def defaults_of(struct: type[Struct]) -> dict[str, Any]:
    """Default values of optional fields by name in JSON; null defaults are omitted."""
    found = {field.encode_name: msgspec.to_builtins(_default(field)) for field in msgspec.structs.fields(struct)}
    return {name: value for name, value in found.items() if value is not None}


def columns(rows: Sequence[Any], defaults: Mapping[str, Any]) -> dict[str, list[Any]]:
    """Values of each field by name in JSON, None where a row has none.

    An object within a row gives one column for each member, such as ``probabilities.positive``; lists are ignored.
    """
    objects = msgspec.to_builtins(list(rows))
    # A dict keeps the order of the fields, so the result is deterministic.
    names = dict.fromkeys(name for row in objects for name in row)
    names |= dict.fromkeys(defaults) if objects else {}
    found: dict[str, list[Any]] = {}
    for name in names:
        default = defaults.get(name)
        found |= _flattened(name, [row.get(name, default) for row in objects])
    return found


def _default(field: msgspec.structs.FieldInfo) -> Any:
    if field.default is not msgspec.NODEFAULT:
        return None if field.default is msgspec.UNSET else field.default
    return None if field.default_factory is msgspec.NODEFAULT else field.default_factory()


def _flattened(name: str, values: list[Any]) -> dict[str, list[Any]]:
    kind = type(next((value for value in values if value is not None), None))
    if kind is dict:
        inner = columns([value if isinstance(value, dict) else {} for value in values], {})
        return {f"{name}.{member}": column for member, column in inner.items()}
    return {} if kind in (list, tuple) else {name: values}
