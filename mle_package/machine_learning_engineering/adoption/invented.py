"""Rows made up from a declaration: with known and unknown values, in and out of the sample's ranges, with gaps."""

import random
from collections.abc import Mapping
from typing import Any

from msgspec import UNSET, UnsetType

from machine_learning_engineering.declaration.schema import FeatureDeclaration

__all__ = ["invented_rows"]

_SHARE_MISSING = 0.15
_SHARE_UNUSUAL = 0.05


def invented_rows(features: Mapping[str, FeatureDeclaration], count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Make up rows that the features accept; the same ones each time.

    Args:
        features: The declared features.
        count: Number of rows.
        seed: Of what is drawn.
    """
    chance = random.Random(seed)
    return [{name: _value(feature, chance) for name, feature in features.items()} for _ in range(count)]


def _value(feature: FeatureDeclaration, chance: random.Random) -> Any:
    if not isinstance(feature.constant, UnsetType):
        return feature.constant
    if feature.missing == "ok" and chance.random() < _SHARE_MISSING:
        return None if feature.default is UNSET else feature.default
    if feature.known:
        unusual = feature.type == "text" and feature.others == "count" and chance.random() < _SHARE_UNUSUAL
        return "no such value" if unusual else chance.choice(feature.known)
    if feature.type == "bool":
        return chance.random() < 0.5
    if feature.type == "text":
        return "text" if isinstance(feature.example, UnsetType) else feature.example
    low, high = (0.0, 100.0) if isinstance(feature.range, UnsetType) else feature.range
    number = chance.uniform(low, high)
    return round(number) if feature.type == "int" else number
