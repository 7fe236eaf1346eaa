"""What Elasticsearch can index of any JSON value. For one part that it can't index, it rejects the whole document.

Tried on 8.19: it rejects two types under one path of a new field, an empty name, a number of more than 1,000 characters
and a value that is no object where it expects one. An object a thousand levels deep ends the node.
"""

import re
from collections import defaultdict
from collections.abc import Iterator
from typing import Any

import msgspec

from machine_learning_engineering.core.json_values import canonical_json, depth, is_deeper

# Below the depth limit of a `flattened` field (20) and far below what a node survives.
_MAX_NESTING = 20
# A `flattened` field rejects a term (the path of keys and the value together) of more than 32,766 bytes.
_MAX_FLATTENED_BYTES = 32_000
# It may also be a text of digits: those are not searchable either.
_LONG_NUMBER = re.compile(rb"[-+.0-9eE]{1000}")
_TYPES = {bool: "boolean", int: "number", float: "number", str: "string"}


def fits_flattened(plain: bytes) -> bool:
    """Whether canonical JSON can be a `flattened` field, whose keys can't contain NUL."""
    if not plain.startswith(b"{") or len(plain) > _MAX_FLATTENED_BYTES or b"\\u0000" in plain:
        return False
    return not is_deeper(plain, _MAX_NESTING) and _LONG_NUMBER.search(plain) is None


def searchable_part(text: bytes | msgspec.Raw) -> tuple[bytes | None, bool]:
    """The members of a JSON object that can be fields of their own, as JSON; and whether these are all.

    A member is left out if a path in it holds values of several types, as in ``{"top": [["cat", 0.9]]}``. Null has no
    type. None if nothing is left, or if the value is no object.
    """
    plain = canonical_json(text)
    if plain is None or _LONG_NUMBER.search(plain) is not None:
        return None, False
    value = msgspec.json.decode(plain)
    if not isinstance(value, dict) or depth(value) > _MAX_NESTING:
        return None, False
    types: defaultdict[str, set[str]] = defaultdict(set)
    members: defaultdict[str, set[str]] = defaultdict(set)
    for name, member in value.items():
        for path, kind in _leaves(name, member):
            types[path].add(kind)
            members[path].add(name)
    left_out = {name for name in value if not name.strip()}
    for path, kinds in types.items():
        if len(kinds) > 1:
            left_out |= members[path]
    if not left_out:
        return plain, True
    part = {name: member for name, member in value.items() if name not in left_out}
    return (msgspec.json.encode(part), False) if part else (None, False)


def _leaves(path: str, value: Any) -> Iterator[tuple[str, str]]:
    """Path and type of each scalar; Elasticsearch sees the elements of an array under the path of the array."""
    if isinstance(value, dict):
        for name, member in value.items():
            yield from _leaves(f"{path}.{name}", member)
    elif isinstance(value, list):
        for element in value:
            yield from _leaves(path, element)
    elif value is not None:
        yield path, _TYPES[type(value)]
