"""Paths of fields in an event: names with dots, such as ``order.amount``, or JSON Pointers, such as ``/order/amount``.

A pointer (RFC 6901) also reaches names with dots: ``/order.id/value``; ``~1`` stands for a slash in a name, ``~0`` for
a tilde.
"""

import re

from machine_learning_engineering.declaration.reading import InvalidDeclaration

__all__ = ["Path", "parse_path"]

Path = tuple[str, ...]
"""Names of the fields from the outermost object on."""

MAX_NAMES = 32
_ESCAPE = re.compile(r"~(?![01])")
_ELEMENT = re.compile(r"\d+|-")
# The decoder finds names as they are written in an event, where these are escaped.
_ESCAPED = re.compile(r'["\\\x00-\x1f]')


def parse_path(text: str, where: str) -> Path:
    """Parse a path.

    Args:
        text: The path, as a declaration has it.
        where: Field of the declaration, for messages.

    Raises:
        InvalidDeclaration: It is no path, or it leads to an element of an array.
    """
    if text.startswith("/"):
        if _ESCAPE.search(text):
            raise InvalidDeclaration(f"{where}: {text[:200]!r} is no JSON Pointer: write ~0 for a tilde")
        names = tuple(name.replace("~1", "/").replace("~0", "~") for name in text[1:].split("/"))
    else:
        names = tuple(text.split("."))
        if "[" in text or "]" in text:
            raise _array(text, where)
    if not all(names):
        raise InvalidDeclaration(
            f"{where}: {text[:200]!r} has an empty name: write a path such as order.amount, or /order/amount"
        )
    if any(map(_ELEMENT.fullmatch, names)):
        raise _array(text, where)
    if _ESCAPED.search(text):
        raise InvalidDeclaration(f"{where}: {text[:200]!r} has a quote, a backslash or a control character in a name")
    if len(names) > MAX_NAMES:
        raise InvalidDeclaration(f"{where}: {text[:200]!r} has {len(names)} names; at most {MAX_NAMES} are allowed")
    return names


def _array(text: str, where: str) -> InvalidDeclaration:
    return InvalidDeclaration(
        f"{where}: {text[:200]!r} leads to an element of an array, whose position means something else in every event: "
        "have the producer give the value a name"
    )
