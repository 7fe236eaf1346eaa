"""JSON values: whether two are the same, whether one is finite, what a cell holds, and what kinds a type takes."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec


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


def is_finite(value: Any) -> bool:
    """Whether a value, such as a Struct, holds neither NaN nor an infinity."""
    # What msgspec has no plain form for, but can write, is JSON text already.
    plain = msgspec.to_builtins(value, enc_hook=lambda _: None)
    return all(math.isfinite(leaf) for leaf in leaves(plain) if isinstance(leaf, float))


_encode = msgspec.json.Encoder().encode


def finite_json(values: Sequence[Any]) -> list[bytes]:
    """The JSON text of each value.

    Raises:
        ValueError: one holds NaN or an infinity, which JSON does not have: they would be written as null.
        TypeError: one can't be written.
    """
    texts = [_encode(value) for value in values]
    # Searched as one text, which costs next to nothing: values without None need no second look.
    if b"null" in b"".join(texts):
        for value, text in zip(values, texts, strict=True):
            if b"null" in text and not is_finite(value):
                raise ValueError("a number is not finite: JSON has no NaN and no infinities")
    return texts


def value_of_cell(text: str) -> Any:
    """The JSON value that a cell of a table holds, or else its text."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


_CANONICAL = msgspec.json.Encoder(order="deterministic")


def canonical_json(text: bytes | msgspec.Raw) -> bytes | None:
    """The same JSON value in one spelling: sorted keys, no white space, repeated keys merged; None if it is unreadable.

    A record can be decoded although a raw part of it can't: a number may be out of range, or UTF-8 invalid.
    """
    try:
        return _CANONICAL.encode(msgspec.json.decode(text))
    except (ValueError, RecursionError):
        return None


def depth(value: Any) -> int:
    """Levels of nested objects and arrays in a JSON value; without recursion, which deep values would exhaust."""
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth
