"""Whether an adopted model answers as the original object does: row by row, without any tolerance.

In a batch, each answer equals the original's in the same batch; alone, the original's alone. Between a row alone and
the same row in a batch, the last digits of sums may differ, as they do in the original: that is told, and at most 1e-9.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from machine_learning_engineering.adoption.frames import rows_of
from machine_learning_engineering.core.threads import cap_numeric_threads
from machine_learning_engineering.declaration.schema import FeatureDeclaration

__all__ = ["ParityReport", "check_parity"]

_SUMS = 1e-9
_TOLD = 5


class ParityReport(Struct, frozen=True):
    """How many rows were answered alike, and the first differences."""

    rows: int
    """Rows that were compared in a batch."""
    alone: int
    """Rows that were compared alone, too."""
    differences: tuple[str, ...] = ()
    """The first differences; none if every answer is equal."""
    differing: int = 0
    """Rows that differ."""
    sums: float = 0.0
    """Greatest difference between a row alone and in a batch, of the original as of the adopted model."""

    @property
    def exact(self) -> bool:
        """Whether no row differs."""
        return not self.differences

    @property
    def text(self) -> str:
        """The report in one line."""
        if not self.exact:
            return f"{self.differing:,} of {self.rows:,} rows differ from the original's, such as {self.differences[0]}"
        equal = f"{self.rows:,} rows in a batch and {self.alone:,} alone are answered exactly as by the original"
        return equal + (f"; alone and in a batch, its sums differ by up to {self.sums:.0e}" if self.sums else "")


def check_parity(
    original: Callable[[Any], Sequence[Any]],
    adopted_predict: Callable[[list[dict[str, Any]]], Sequence[Any]],
    sample: Any,
    features: Mapping[str, FeatureDeclaration] | None = None,
    limit: int = 100,
) -> ParityReport:
    """Compare the answers for every row of a sample.

    Args:
        original: Answers a frame, one value a row: numbers, texts, lists, mappings or structs.
        adopted_predict: Answers rows as JSON has them, in the same form.
        sample: The frame that the pipeline would get.
        features: The declared features; the columns of the sample by default.
        limit: Rows that are asked for alone, too.
    """
    named = features if features is not None else {str(name): FeatureDeclaration("float") for name in sample.columns}
    rows = rows_of(sample, named)
    found = _Differences()
    with cap_numeric_threads():
        expected = _plain(original(sample))
        answered = _plain(adopted_predict(rows))
        if not len(rows) == len(expected) == len(answered):
            numbers = f"{len(rows)} rows, {len(expected)} answers of the original, {len(answered)} of the adopted model"
            return ParityReport(len(rows), 0, (numbers,), len(rows))
        for number, (one, other) in enumerate(zip(expected, answered, strict=True)):
            if distance(one, other) != 0:
                found.add(number, f"{one} in a batch became {other}")
        alone = min(len(rows), limit)
        sums = 0.0
        for number in range(alone):
            other = _plain(adopted_predict([rows[number]]))[0]
            try:
                own = _plain(original(sample[number : number + 1]))[0]
            except LookupError:  # It was not asked for this row alone: the batch's answer counts.
                own = other
            if distance(own, other) != 0:
                found.add(number, f"{own} alone became {other}")
            apart = distance(other, expected[number])
            if apart > _SUMS:
                found.add(number, f"{other} alone is {expected[number]} in a batch")
            sums = max(sums, apart)
    return ParityReport(len(rows), alone, tuple(found.told), len(found.rows), 0.0 if found.rows else sums)


class _Differences:
    def __init__(self) -> None:
        self.told: list[str] = []
        self.rows: set[int] = set()

    def add(self, row: int, what: str) -> None:
        """Note a row that differs. The values are answers, not features."""
        self.rows.add(row)
        if len(self.told) < _TOLD:
            self.told.append(f"row {row}: {what:.300}")


def distance(one: Any, other: Any) -> float:
    """0 if two answers are equal, NaN to NaN; the greatest relative difference of their numbers; else infinity."""
    if isinstance(one, Mapping) and isinstance(other, Mapping):
        if one.keys() != other.keys():
            return math.inf
        return max((distance(value, other[key]) for key, value in one.items()), default=0.0)
    if isinstance(one, list | tuple) and isinstance(other, list | tuple):
        if len(one) != len(other):
            return math.inf
        return max(map(distance, one, other), default=0.0)
    if isinstance(one, bool) != isinstance(other, bool) or isinstance(one, str) != isinstance(other, str):
        return math.inf
    if one == other or (one is None and other is None):
        return 0.0
    if not isinstance(one, int | float) or not isinstance(other, int | float):
        return math.inf
    if math.isnan(one) or math.isnan(other):
        return 0.0 if math.isnan(one) and math.isnan(other) else math.inf
    return abs(one - other) / max(1.0, abs(one), abs(other))


def _plain(answers: Any) -> list[Any]:
    if hasattr(answers, "tolist"):
        return list(answers.tolist())
    return [msgspec.to_builtins(one.tolist() if hasattr(one, "tolist") else one) for one in answers]
