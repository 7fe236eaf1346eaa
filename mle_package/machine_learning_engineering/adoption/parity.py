"""Whether an adopted model answers as the original object does."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import msgspec
from msgspec import Struct

from machine_learning_engineering.adoption.frames import rows_of
from machine_learning_engineering.core.json_values import same
from machine_learning_engineering.declaration.schema import FeatureDeclaration

__all__ = ["ParityReport", "check_parity"]


class ParityReport(Struct, frozen=True):
    """How many rows were answered alike, and the first differences."""

    rows: int
    alone: int
    differences: tuple[str, ...] = ()

    @property
    def exact(self) -> bool:
        """Whether no row differs."""
        return not self.differences

    @property
    def text(self) -> str:
        """The report in one line."""
        if self.exact:
            return f"{self.rows:,} rows in a batch and {self.alone:,} alone are answered as by the original"
        return f"{len(self.differences):,} differences, such as {self.differences[0]}"


def check_parity(
    original: Callable[[Any], Sequence[Any]],
    adopted_predict: Callable[[list[dict[str, Any]]], Sequence[Any]],
    sample: Any,
    features: Mapping[str, FeatureDeclaration] | None = None,
    limit: int = 200,
) -> ParityReport:
    """Compare the answers for a sample, in a batch and for at most `limit` rows alone."""
    rows = rows_of(sample, features or {})
    expected = [msgspec.to_builtins(one) for one in original(sample)]
    found = [msgspec.to_builtins(one) for one in adopted_predict(rows)]
    alone = [msgspec.to_builtins(adopted_predict([row])[0]) for row in rows[:limit]]
    differences = [
        f"row {number}: {one} and {other}"
        for answers in (found, alone)
        for number, (one, other) in enumerate(zip(expected, answers, strict=False))
        if not same(one, other, 1e-9)
    ]
    return ParityReport(len(rows), len(alone), tuple(differences))
