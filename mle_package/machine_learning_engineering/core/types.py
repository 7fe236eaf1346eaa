"""The kinds of JSON values that a msgspec type accepts."""

from msgspec import inspect

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
    names: dict[type, str] = {str: "text", int: "number", type(None): "null"}
    found: set[str] = set()
    for one in alternatives(info):
        if isinstance(one, inspect.LiteralType):
            found |= {names.get(type(value), "any") for value in one.values}
        else:
            found |= _KINDS.get(type(one), {"any"})
    return found


def alternatives(info: inspect.Type) -> list[inspect.Type]:
    """The types of a union, or the one that it is; without their constraints."""
    if isinstance(info, inspect.Metadata):
        return alternatives(info.type)
    if isinstance(info, inspect.UnionType):
        return [found for one in info.types for found in alternatives(one)]
    return [info]
