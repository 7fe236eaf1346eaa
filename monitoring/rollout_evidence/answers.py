"""What is kept of a request: the answer of a version, the pair of two answers, and the label. Pure."""

import math
from datetime import datetime
from typing import Any, Literal

import msgspec
from msgspec import Struct

from machine_learning_engineering.core.json_values import same

Rank = tuple[float, int, int, int]
"""Of two records of one request, the one of smaller rank counts: completed earlier, then by its place and text."""
Value = float | str
_TOLERANCE = 1e-9
_OVERHEAD = 400
"""Approximate size of an item without its texts, in bytes."""
MAX_TEXT = 100
"""Characters of a value that is a text."""


class Label(Struct, frozen=True):
    """A label as JSON text. Of several for a request, the greatest counts, as in `monitoring.labels`."""

    observed_at: datetime
    reported_at: datetime
    text: bytes

    def beats(self, other: "Label | None") -> bool:
        """Whether it counts rather than another."""
        return other is None or self._rank > other._rank

    @property
    def _rank(self) -> tuple[datetime, datetime, bytes]:
        return self.observed_at, self.reported_at, self.text


class Answer(Struct):
    """What a version made of a request. `outcome` is "failed" if the model raised, "rejected" if the request was bad.

    `seconds` is the duration of the call that scored it. `value` is that of `value_of`. `loss` belongs to `judged`.
    """

    rank: Rank
    accepted: float
    outcome: Literal["completed", "invalid", "failed", "rejected"]
    seconds: float | None
    prediction: bytes
    value: Value | None
    judged: Label | None = None
    loss: float | None = None

    @property
    def size(self) -> int:
        return len(self.prediction) + _OVERHEAD


class Unit(Struct, frozen=True):
    """What the split divides, such as a customer, and the version that answered it."""

    rank: Rank
    version: str
    size: int = 100


class Pair(Struct):
    """What both versions made of a request; without predictions if one of them has none.

    `losses` are those of champion and challenger, and belong to `judged`.
    """

    rank: Rank
    accepted: float
    dropped: bool
    champion: bytes = b""
    challenger: bytes = b""
    different: bool = False
    distance: float | None = None
    judged: Label | None = None
    losses: tuple[float, float] | None = None

    @property
    def size(self) -> int:
        return len(self.champion) + len(self.challenger) + _OVERHEAD


def pair_of(rank: Rank, accepted: float, champion: bytes, challenger: bytes) -> Pair:
    """The pair of two predictions (JSON texts), compared."""
    if champion == challenger:
        distance = 0.0 if isinstance(value_of(champion), float) else None
        return Pair(rank, accepted, False, champion, challenger, False, distance)
    one, other = value_of(champion), value_of(challenger)
    distance = abs(other - one) if isinstance(one, float) and isinstance(other, float) else None
    return Pair(rank, accepted, False, champion, challenger, not _equal(champion, challenger), distance)


def value_of(prediction: bytes) -> Value | None:
    """The value that predictions are compared by: the first number in it, else its first text or truth value.

    Lists are left out, as in a profile. None if there is none, or if it is no JSON.
    """
    try:
        found = _decode(prediction)
    except (ValueError, RecursionError):
        return None
    values = [leaf for leaf in _leaves(found) if leaf is not None]
    for leaf in values:
        if isinstance(leaf, int | float) and not isinstance(leaf, bool):
            return _finite(leaf)
    for leaf in values:
        return str(leaf)[:MAX_TEXT] if isinstance(leaf, str) else ("true" if leaf else "false")
    return None


def path_of(prediction: bytes) -> str | None:
    """The path of the first number, such as ``probabilities.positive``: the name of a field of a profile."""
    try:
        found = _decode(prediction)
    except (ValueError, RecursionError):
        return None
    return _path(found, "")


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
