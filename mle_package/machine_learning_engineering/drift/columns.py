"""Rows as columns of JSON values, whether they are Structs or the objects that were decoded from JSON."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct


def defaults_of(struct: type[Struct]) -> dict[str, Any]:
    """The values, other than null, of fields that may be left out, by their names in JSON."""
    found = {field.encode_name: msgspec.to_builtins(_default(field)) for field in msgspec.structs.fields(struct)}
    return {name: value for name, value in found.items() if value is not None}


def columns(rows: Sequence[Any], defaults: Mapping[str, Any]) -> dict[str, list[Any]]:
    """The values of each field by its name in JSON, None where a row has none.

    An object within a row gives a column for each of its members, such as ``probabilities.positive``; lists are left
    out.
    """
    objects = msgspec.to_builtins(list(rows))
    # In the order of the rows' fields, so that columns of the same rows come in the same order.
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
