"""JSON values, as plain Python objects, for the laws: whether two are the same, and what kinds a type takes."""

import math
from typing import Any

from msgspec import inspect


def same(one: Any, other: Any, tolerance: float) -> bool:
    """Whether two values are equal, their floats within a relative tolerance; NaN equals NaN."""
    if isinstance(one, float) and isinstance(other, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or one == other or math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b, tolerance) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def leaves(value: Any) -> list[Any]:
    """What is in a value and holds no further values."""
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list | tuple) else [value]


_KINDS: dict[type, set[str]] = {
    inspect.NoneType: {"null"},
    inspect.BoolType: {"bool"},
    inspect.IntType: {"number"},
    inspect.FloatType: {"number"},
    inspect.StrType: {"text"},
    inspect.ListType: {"array"},
    inspect.VarTupleType: {"array"},
    inspect.TupleType: {"array"},
    inspect.SetType: {"array"},
    inspect.FrozenSetType: {"array"},
    inspect.DictType: {"object"},
    inspect.TypedDictType: {"object"},
    inspect.DataclassType: {"object"},
}


def kinds(info: inspect.Type) -> set[str]:
    """The kinds of JSON value that a type takes; "any" where that can't be told."""
    if isinstance(info, inspect.Metadata):
        return kinds(info.type)
    if isinstance(info, inspect.UnionType):
        return {kind for one in info.types for kind in kinds(one)}
    if isinstance(info, inspect.LiteralType):
        names: dict[type, str] = {str: "text", int: "number", type(None): "null"}
        return {names.get(type(value), "any") for value in info.values}
    return _KINDS.get(type(info), {"any"})
