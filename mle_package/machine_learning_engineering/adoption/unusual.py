"""Values that a declaration accepts but counts: outside the sample's range, or not among the known ones."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from machine_learning_engineering.declaration.schema import FeatureDeclaration

__all__ = ["NOT_KNOWN", "OUT_OF_RANGE", "Usual"]

OUT_OF_RANGE = "outside the sample's range"
NOT_KNOWN = "not a known value"


class Usual:
    """What is usual for each feature. Empty, and so false, if the declaration says nothing of it."""

    def __init__(self, features: Mapping[str, FeatureDeclaration]) -> None:
        declared = list(enumerate(features.items()))
        self._ranges = [(index, name, *one.range) for index, (name, one) in declared if one.range is not UNSET]
        self._known = [
            (index, name, frozenset(one.known))
            for index, (name, one) in declared
            if one.known and one.others == "count"
        ]

    def __bool__(self) -> bool:
        return bool(self._ranges or self._known)

    def count(self, rows: Sequence[Any]) -> dict[tuple[str, str], int]:
        """Number of unusual values by feature and reason. A missing value is not unusual.

        Args:
            rows: Structs with the features in order.
        """
        columns = list(zip(*map(msgspec.structs.astuple, rows), strict=True))
        found: dict[tuple[str, str], int] = {}
        for index, name, least, most in self._ranges:
            if outside := sum(value is not None and not least <= value <= most for value in columns[index]):
                found[name, OUT_OF_RANGE] = outside
        for index, name, known in self._known:
            # Most batches hold known values alone, which one comparison of sets tells.
            if set(columns[index]) - known - {None}:
                found[name, NOT_KNOWN] = sum(value is not None and value not in known for value in columns[index])
        return found
