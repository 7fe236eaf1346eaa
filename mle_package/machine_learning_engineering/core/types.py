"""Kinds of JSON value and of column that a msgspec type accepts."""

import msgspec
from msgspec import Struct, inspect

_KINDS: dict[type, tuple[str, str]] = {
    inspect.NoneType: ("null", "null"),
    inspect.BoolType: ("bool", "bool"),
    inspect.IntType: ("number", "int64"),
    inspect.FloatType: ("number", "float64"),
    inspect.StrType: ("string", "string"),
    inspect.ListType: ("array", "json"),
    inspect.VarTupleType: ("array", "json"),
    inspect.TupleType: ("array", "json"),
    inspect.SetType: ("array", "json"),
    inspect.FrozenSetType: ("array", "json"),
    inspect.DictType: ("object", "json"),
    inspect.TypedDictType: ("object", "json"),
    inspect.DataclassType: ("object", "json"),
}
"""JSON kind and column kind of each type."""
_LITERALS: dict[type, type] = {str: inspect.StrType, int: inspect.IntType, type(None): inspect.NoneType}
_OTHER = ("any", "json")


def json_kinds(info: inspect.Type) -> set[str]:
    """Return the kinds of JSON value that a type accepts: ``null``, ``bool``, ``number``, ``string``, ``array``,
    ``object``, or ``any`` where the kind cannot be told."""
    return {kind for kind, _ in _kinds(info)}


def column_kinds(info: inspect.Type) -> set[str]:
    """Return the kinds of Arrow column that a type's values need: ``null``, ``bool``, ``int64``, ``float64``,
    ``string``, or ``json`` for values that are stored as JSON text."""
    return {kind for _, kind in _kinds(info)}


def _kinds(info: inspect.Type) -> set[tuple[str, str]]:
    if isinstance(info, inspect.Metadata):
        return _kinds(info.type)
    if isinstance(info, inspect.UnionType):
        return {kind for one in info.types for kind in _kinds(one)}
    if isinstance(info, inspect.LiteralType):
        return {_KINDS.get(_LITERALS.get(type(value), object), _OTHER) for value in info.values}
    return {_KINDS.get(type(info), _OTHER)}


def leaves(struct: type[Struct], *, within: tuple[type[Struct], ...] = ()) -> list[tuple[str, inspect.Type]]:
    """Names in JSON and types of the fields of a struct; of the members of an object within it, such as
    ``probabilities.positive``. An object within one of its own type is left whole."""
    found = []
    for field in msgspec.structs.fields(struct):
        info = inspect.type_info(field.type)
        inner = _struct_of(info)
        if inner is None or inner in (struct, *within):
            found.append((field.encode_name, info))
        else:
            members = leaves(inner, within=(struct, *within))
            found += [(f"{field.encode_name}.{name}", one) for name, one in members]
    return found


def _struct_of(info: inspect.Type) -> type[Struct] | None:
    if isinstance(info, inspect.Metadata):
        return _struct_of(info.type)
    if isinstance(info, inspect.UnionType):
        inner = [one for one in info.types if not isinstance(one, inspect.NoneType)]
        return _struct_of(inner[0]) if len(inner) == 1 else None
    return info.cls if isinstance(info, inspect.StructType) else None
