"""How two predictions for one request are compared, whatever the model: by their JSON alone."""

import math
from typing import Any

import msgspec
from msgspec import Struct

from machine_learning_engineering.core.json_values import same

Value = float | str
MAX_TEXT = 100
"""Characters of a value that is a text."""
_TOLERANCE = 1e-9


class Difference(Struct, frozen=True):
    """Whether two predictions differ, and the distance of their values where both are numbers."""

    different: bool
    distance: float | None


def compare(one: bytes, other: bytes) -> Difference:
    """Compare two predictions (JSON texts). Numbers that differ by rounding alone are equal."""
    value = value_of(one)
    if one == other:
        return Difference(False, 0.0 if isinstance(value, float) else None)
    beside = value_of(other)
    distance = abs(beside - value) if isinstance(value, float) and isinstance(beside, float) else None
    if distance is not None and not math.isfinite(distance):
        distance = None
    return Difference(not _equal(one, other), distance)


def value_of(prediction: bytes) -> Value | None:
    """The value that predictions are compared by: the first number in it, else its first text or truth value.

    Lists are left out, as in a profile. None if there is none, or if it is no JSON.
    """
    try:
        values = [leaf for leaf in _leaves(_decode(prediction)) if leaf is not None]
    except (ValueError, RecursionError):
        return None
    for leaf in values:
        if isinstance(leaf, int | float) and not isinstance(leaf, bool):
            return _finite(leaf)
    for leaf in values:
        return str(leaf)[:MAX_TEXT] if isinstance(leaf, str) else ("true" if leaf else "false")
    return None


def path_of(prediction: bytes) -> str | None:
    """The path of the first number, such as ``probabilities.positive``: the name of a field of a profile."""
    try:
        return _path(_decode(prediction), "")
    except (ValueError, RecursionError):
        return None


_decode = msgspec.json.Decoder().decode


def _equal(one: bytes, other: bytes) -> bool:
    try:
        return same(_decode(one), _decode(other), _TOLERANCE)
    except (ValueError, RecursionError):
        return False


def _finite(number: float) -> float | None:
    try:
        found = float(number)
    except OverflowError:
        return None
    return found if math.isfinite(found) else None


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for member in value.values() for leaf in _leaves(member)]
    return [] if isinstance(value, list) else [value]


def _path(value: Any, path: str) -> str | None:
    if isinstance(value, dict):
        for name, member in value.items():
            if (found := _path(member, f"{path}.{name}" if path else name)) is not None:
                return found
        return None
    return path if isinstance(value, int | float) and not isinstance(value, bool) else None
