"""What is kept of a request: the answer of a version, the pair of two answers, and the label. Pure."""

from datetime import datetime
from typing import Literal

from msgspec import Struct

from machine_learning_engineering.rollout.comparison import Value, compare

Rank = tuple[float, int, int, int]
"""Of two records of one request, the one of smaller rank counts: completed earlier, then by its place and text."""
_OVERHEAD = 400
"""Approximate size of an item without its texts, in bytes."""


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

    `seconds` is the duration of the call that scored it, `value` what predictions are compared by. `loss` belongs to
    the label `judged`.
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
    found = compare(champion, challenger)
    return Pair(rank, accepted, False, champion, challenger, found.different, found.distance)
