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


def decode_as(raw: bytes | msgspec.Raw, kind: Any) -> Any:
    """Decode JSON as a type. A number without a fraction is an integer, as JSON Schema says: 3.0 is 3.

    Raises:
        msgspec.MsgspecError, UnicodeDecodeError, RecursionError: As the decoder of msgspec.
    """
    try:
        return msgspec.json.decode(raw, type=kind)
    except msgspec.ValidationError as error:
        if (whole := with_integers(raw, error)) is None:
            raise
        return msgspec.json.decode(whole, type=kind)


def with_integers(raw: bytes | msgspec.Raw, error: msgspec.ValidationError) -> bytes | None:
    """Rewrite JSON that a decoder rejected with `error`, each 3.0 as 3; None if that was not the reason.

    A field of decimal numbers accepts an integer as well, so it does not matter which of the numbers were meant.
    """
    if "got `float`" not in str(error):
        return None
    value = msgspec.json.decode(raw)
    whole = whole_numbers(value)
    return None if whole is value else _encode(whole)


def whole_numbers(value: Any) -> Any:
    """Return the value with an integer for each number without a fraction; the same object if it has none."""
    if isinstance(value, float):
        # Not -0.0: an integer has no negative zero. Beyond 2**53 a float is not exact.
        exact = value.is_integer() and abs(value) <= 2**53 and (value != 0 or math.copysign(1, value) > 0)
        return int(value) if exact else value
    if isinstance(value, dict):
        changed = {key: whole_numbers(item) for key, item in value.items()}
        return changed if any(changed[key] is not item for key, item in value.items()) else value
    if isinstance(value, list):
        items = [whole_numbers(item) for item in value]
        return items if any(new is not old for new, old in zip(items, value, strict=True)) else value
    return value


def plain_scalar(value: Any) -> Any:
    """Hook of an encoder: the Python number of a NumPy scalar, as rows of a data frame hold them.

    Raises:
        TypeError: It is something else.
    """
    if type(value).__module__ == "numpy" and getattr(value, "shape", None) == ():
        return value.item()
    raise TypeError(f"objects of type {type(value).__qualname__} are no JSON values")


def value_of_cell(text: str) -> Any:
    """Parse a table cell as JSON; return the text itself if it is not JSON."""
    try:
        return msgspec.json.decode(text)
    except (ValueError, RecursionError):
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
