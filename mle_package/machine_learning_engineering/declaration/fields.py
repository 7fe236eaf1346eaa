"""Reads chosen fields of a JSON event in one pass, by structs that are made from their paths."""

from collections.abc import Callable, Mapping, Sequence
from operator import attrgetter
from typing import Any

import msgspec
from msgspec import UNSET, Raw, UnsetType

from machine_learning_engineering.core.validation import safe_field_path
from machine_learning_engineering.declaration.paths import Path
from machine_learning_engineering.declaration.reading import InvalidDeclaration

__all__ = ["EventFields", "NotAnObject"]

Found = tuple[Any, ...]
"""The JSON of each path, `Raw`; `UNSET` where the event has no such field."""

_NULL = Raw(b"null")
_KINDS = {str: "a string", bool: "true or false", int: "a number", float: "a number", list: "an array"}
MAX_UNKNOWN = 20
"""Names that `unknown` returns."""


class NotAnObject(ValueError):
    """A value on the way of a path is no object. The message names the field."""


class EventFields:
    """Finds the values of paths. Unknown fields are skipped, unread.

    Args:
        paths: Several may be equal; none may lead through the value of another one.
        refuse_unknown: Fail on any field that no path names or leads through.

    Raises:
        InvalidDeclaration: One path reads a field as a value, and another one as an object.
    """

    def __init__(self, paths: Sequence[Path], *, refuse_unknown: bool = False) -> None:
        self._paths = tuple(paths)
        self._tree: dict[str, Any] = {}
        for path in self._paths:
            _add(self._tree, path)
        attributes: dict[Path, str] = {}
        root = _struct(self._tree, (), "", attributes, refuse_unknown)
        self._decode: Callable[[bytes], Any] = msgspec.json.Decoder(root).decode
        self._get = _getter([attributes[path] for path in self._paths])

    def read(self, event: bytes) -> Found:
        """Return the JSON of each path, in order.

        Raises:
            msgspec.ValidationError, AttributeError: It takes `read_slowly` to tell: a field is unknown, or a value on
                the way of a path is no object.
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: It is not JSON.
        """
        found: Found = self._get(self._decode(event))
        return found

    def read_slowly(self, event: bytes) -> tuple[Any, ...]:
        """As `read`, with a `NotAnObject` in the place of what can't be reached.

        Raises:
            NotAnObject: The event itself is none.
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: As `read`.
        """
        whole = msgspec.json.decode(event)
        if not isinstance(whole, dict):
            raise NotAnObject(f"an event is a JSON object, not {_kind(whole)}")
        return tuple(_walk(whole, path) for path in self._paths)

    def unknown(self, event: bytes) -> list[str]:
        """Return the fields that no path names or leads through, at most `MAX_UNKNOWN`. Slow.

        Raises:
            msgspec.DecodeError, UnicodeDecodeError, RecursionError: As `read`.
        """
        found: list[str] = []
        _collect_unknown(msgspec.json.decode(event), self._tree, "", found)
        return found


def _add(tree: dict[str, Any], path: Path) -> None:
    """Add a path to a tree of names, whose leaves are None."""
    for depth, name in enumerate(path, 1):
        is_leaf = depth == len(path)
        child: Any = tree.setdefault(name, None if is_leaf else {})
        if (child is None) != is_leaf:
            raise InvalidDeclaration(
                f"field `{'.'.join(path[:depth])}` is read as a value, and as an object with fields: name its fields"
            )
        tree = child


def _struct(
    tree: Mapping[str, Any], path: Path, attribute: str, attributes: dict[Path, str], refuse: bool
) -> type[msgspec.Struct]:
    fields: list[tuple[str, Any, Any]] = []
    rename = {}
    for number, (name, child) in enumerate(tree.items()):
        # Names of events may be anything; those of attributes may not.
        own = f"f{number}"
        rename[own] = name
        here = f"{attribute}.{own}".lstrip(".")
        if child is None:
            attributes[*path, name] = here
            fields.append((own, Raw | UnsetType, UNSET))
        else:
            inner = _struct(child, (*path, name), here, attributes, refuse)
            fields.append((own, inner | None, msgspec.field(default_factory=inner)))
    return msgspec.defstruct("Event", fields, rename=rename, forbid_unknown_fields=refuse, gc=False)


def _getter(attributes: Sequence[str]) -> Callable[[Any], Found]:
    if not attributes:
        return lambda _event: ()
    get = attrgetter(*attributes)
    return get if len(attributes) > 1 else lambda event: (get(event),)


def _walk(value: dict[str, Any], path: Path) -> Any:
    found: Any = value
    for depth, name in enumerate(path):
        if found is None:
            return UNSET
        if not isinstance(found, dict):
            return NotAnObject(f"field `{'.'.join(path[:depth])}` must be an object, not {_kind(found)}")
        if name not in found:
            return UNSET
        found = found[name]
    return Raw(msgspec.json.encode(found))


def _kind(value: Any) -> str:
    return "null" if value is None else _KINDS.get(type(value), "an object")


def _collect_unknown(value: Any, tree: Mapping[str, Any], prefix: str, found: list[str]) -> None:
    if not isinstance(value, dict):
        return
    for name, child in value.items():
        if len(found) >= MAX_UNKNOWN:
            return
        if name not in tree:
            # The name may be a value in the wrong place.
            found.append(safe_field_path(f"{prefix}{name}"))
        elif tree[name] is not None:
            _collect_unknown(child, tree[name], f"{prefix}{name}.", found)
