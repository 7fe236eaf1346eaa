"""JSON values: comparison, finiteness, encoding, and parsing of table cells."""

import math
from collections.abc import Sequence
from typing import Any

import msgspec


def same(one: Any, other: Any, tolerance: float) -> bool:
    """Compare two values, floats within a relative and absolute tolerance; NaN equals NaN."""
    if isinstance(one, float) and isinstance(other, float):
        both_nan = math.isnan(one) and math.isnan(other)
        return both_nan or one == other or math.isclose(one, other, rel_tol=tolerance, abs_tol=tolerance)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key], tolerance) for key in one)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        return len(one) == len(other) and all(same(a, b, tolerance) for a, b in zip(one, other, strict=True))
    return bool(one == other)


def leaves(value: Any) -> list[Any]:
    """Return the scalars in a value, in order."""
    if isinstance(value, dict):
        value = list(value.values())
    return [leaf for item in value for leaf in leaves(item)] if isinstance(value, list | tuple) else [value]


def is_finite(value: Any) -> bool:
    """Tell whether a value, such as a struct, holds neither NaN nor an infinity."""
    # A type without a plain form that msgspec can encode is JSON text already.
    plain = msgspec.to_builtins(value, enc_hook=lambda _: None)
    return all(math.isfinite(leaf) for leaf in leaves(plain) if isinstance(leaf, float))


_encode = msgspec.json.Encoder().encode


def finite_json(values: Sequence[Any]) -> list[bytes]:
    """Encode each value as JSON.

    Raises:
        ValueError: A value holds NaN or an infinity, which the encoder would write as null.
        TypeError: A value cannot be encoded.
    """
    texts = [_encode(value) for value in values]
    # One search over all texts costs next to nothing: values without null need no further check.
    if b"null" in b"".join(texts):
        for value, text in zip(values, texts, strict=True):
            if b"null" in text and not is_finite(value):
                raise ValueError("a number is not finite: JSON has no NaN and no infinities")
    return texts


def value_of_cell(text: str) -> Any:
    """Parse a table cell as JSON; return the text itself if it is not JSON."""
    try:
        return msgspec.json.decode(text)
    except msgspec.DecodeError:
        return text


_CANONICAL = msgspec.json.Encoder(order="deterministic")


def canonical_json(text: bytes | msgspec.Raw) -> bytes | None:
    """Normalize JSON: sorted keys, no white space, repeated keys merged; None if the text cannot be decoded.

    A raw part of a decoded record may still be undecodable: a number may be out of range, or UTF-8 invalid.
    """
    try:
        return _CANONICAL.encode(msgspec.json.decode(text))
    except (ValueError, RecursionError):
        return None


def is_deeper(text: bytes, levels: int) -> bool:
    """Whether valid JSON is nested more deeply. Few brackets can't be: only many of them are worth decoding."""
    return text.count(b"{") + text.count(b"[") > levels and depth(msgspec.json.decode(text)) > levels


def depth(value: Any) -> int:
    """Levels of nested objects and arrays in a JSON value; without recursion, which deep values would exhaust."""
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth
