"""Frames of rows, with the types that features declare: a row alone is the same as in a batch."""

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import numpy as np

from machine_learning_engineering.core.extras import require
from machine_learning_engineering.declaration.schema import FeatureDeclaration

__all__ = ["build_frame"]


def build_frame(rows: Sequence[Any], features: Mapping[str, FeatureDeclaration]) -> Any:
    """Build a data frame.

    Args:
        rows: Structs with the features in order, or mappings by name; None and an absent name are missing values.
        features: The declared features.

    Returns:
        A `pandas.DataFrame` of shape (rows, features). A missing number is NaN, a missing text or boolean NaN in a
        column of objects.
    """
    pandas = require("pandas", "adopt")
    if rows and isinstance(rows[0], Mapping):
        cells = [tuple(row.get(name) for name in features) for row in rows]
    else:
        cells = [msgspec.structs.astuple(row) for row in rows]
    columns = zip(*cells, strict=True) if cells else ((),) * len(features)
    return pandas.DataFrame(
        {name: _column(values, one) for (name, one), values in zip(features.items(), columns, strict=True)}
    )


def _column(values: Sequence[Any], feature: FeatureDeclaration) -> Any:
    optional = feature.missing == "ok"
    if feature.type == "float" or (feature.type == "int" and optional):
        return np.array(values, dtype=np.float64)
    if feature.type == "int":
        return np.array(values, dtype=np.int64)
    if feature.type == "bool" and not optional:
        return np.array(values, dtype=np.bool_)
    found = np.empty(len(values), dtype=object)
    found[:] = [np.nan if value is None else value for value in values]
    return found


def rows_of(frame: Any, features: Mapping[str, FeatureDeclaration]) -> list[dict[str, Any]]:
    """The rows of a frame as JSON values, missing ones as None. Columns that are no features are left out.

    Raises:
        KeyError: The frame lacks a column.
    """
    columns = {name: [_json(value, one) for value in frame[name].tolist()] for name, one in features.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _json(value: Any, feature: FeatureDeclaration) -> Any:
    if value is None or value != value:
        return None
    if hasattr(value, "item"):
        value = value.item()
    if feature.type == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    if feature.type == "bool" and value in (0, 1):
        return bool(value)
    return str(value) if feature.type == "text" else value
