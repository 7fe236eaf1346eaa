"""Frames of an adopted model's rows, with the types that its features declare: a row alone is the same as in a batch.

pandas guesses the type of a column by its values. A batch of texts with a missing one is a column of texts with NaN;
the row with the missing text alone is a column of objects with None, which an imputer for NaN does not see.
"""

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import msgspec
import numpy as np
from msgspec import UNSET

from machine_learning_engineering.core.extras import require
from machine_learning_engineering.declaration.schema import FeatureDeclaration

__all__ = ["NONE_OBJECT", "UnknownDtype", "build_frame", "rows_of"]

NONE_OBJECT = "object[None]"
"""A column of Python objects whose missing values are None; those of ``object`` are NaN."""
_DEFAULT = {"float": "float64", "int": "int64", "bool": "bool", "text": "text"}
Column = Callable[[Sequence[Any]], Any]


class UnknownDtype(ValueError):
    """A declared `dtype` is not one of pandas'."""


def build_frame(rows: Sequence[Any], features: Mapping[str, FeatureDeclaration]) -> Any:
    """Build a data frame.

    Args:
        rows: Structs with the features in order, or mappings by name; None and an absent name are missing values.
        features: The declared features.

    Returns:
        A `pandas.DataFrame` of shape (rows, features). The type of each column depends on its declaration alone.

    Raises:
        ValueError: A value does not fit its column, such as a text that is no date.
        UnknownDtype: A `dtype` is not known.
    """
    pandas = require("pandas", "adopt")
    if rows and isinstance(rows[0], Mapping):
        columns: Any = [[row.get(name) for row in rows] for name in features]
    elif rows:
        columns = zip(*map(msgspec.structs.astuple, rows), strict=True)
    else:
        columns = [()] * len(features)
    made = {name: column_maker(one)(values) for (name, one), values in zip(features.items(), columns, strict=True)}
    return pandas.DataFrame(made, index=range(len(rows)), copy=False)


def rows_of(frame: Any, features: Mapping[str, FeatureDeclaration]) -> list[dict[str, Any]]:
    """The rows of a frame as JSON values, missing ones as None. Columns that are no features are left out.

    Raises:
        KeyError: The frame lacks a column.
    """
    columns = {name: _values(frame[name], one) for name, one in features.items()}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _values(column: Any, feature: FeatureDeclaration) -> list[Any]:
    if getattr(column.dtype, "kind", "") == "M":
        found = [None if missing else one.isoformat() for one, missing in zip(column, column.isna(), strict=True)]
    else:
        found = [None if missing else one for one, missing in zip(column.tolist(), column.isna(), strict=True)]
    return [None if one is None else _json(one, feature) for one in found]


def _json(value: Any, feature: FeatureDeclaration) -> Any:
    if hasattr(value, "item"):
        value = value.item()
    if feature.type == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    if feature.type == "bool" and value in (0, 1):
        return bool(value)
    if feature.type == "text":
        return value if isinstance(value, str) else str(value)
    return value


@lru_cache(maxsize=4096)
def _maker(kind: str, dtype: str, optional: bool, known: tuple[Any, ...]) -> Column:
    pandas = require("pandas", "adopt")
    dtype = dtype or _DEFAULT[kind]
    if dtype in ("int64", "bool") and optional:
        # As pandas reads such a column: there is no integer and no bool that is missing.
        dtype = "float64" if dtype == "int64" else "object"
    if dtype == "text":
        # What pandas makes of texts: objects before version 3.
        dtype = "str" if int(pandas.__version__.partition(".")[0]) >= 3 else "object"
    if dtype == "object":
        return lambda values: _objects(pandas, values, np.nan)
    if dtype == NONE_OBJECT:
        return lambda values: _objects(pandas, values, None)
    if dtype == "category":
        categories = pandas.CategoricalDtype(pandas.Index(list(known)))
        members = frozenset(known)
        return lambda values: pandas.Categorical([one if one in members else None for one in values], dtype=categories)
    if dtype.startswith("datetime64["):
        return lambda values: _dates(pandas, values, dtype)
    try:
        found = pandas.api.types.pandas_dtype(dtype)
    except TypeError as error:
        raise UnknownDtype(f"pandas has no type {dtype!r:.100}") from error
    if isinstance(found, np.dtype):
        if found.kind not in "biuf":
            raise UnknownDtype(f"a column of {dtype!r:.100} can't be made of JSON")
        if found.kind == "f":
            return lambda values: np.array([np.nan if one is None else one for one in values], dtype=found)
        return lambda values: _exact(values, found)
    return lambda values: pandas.array(list(values), dtype=found)


def column_maker(feature: FeatureDeclaration) -> Column:
    """The function that makes a column of a feature's values, one a row, None where one is missing."""
    make = _maker(
        feature.type, feature.dtype, feature.missing == "ok", feature.known if feature.dtype == "category" else ()
    )
    if feature.constant is not UNSET:
        return lambda values: make([feature.constant] * len(values))
    if feature.default is not UNSET:
        return lambda values: make([feature.default if one is None else one for one in values])
    return make


def _exact(values: Sequence[Any], dtype: np.dtype[Any]) -> Any:
    found = np.array(values)
    if found.dtype == object or (dtype.kind in "iu" and found.dtype.kind not in "biu" and len(values)):
        raise ValueError(f"a value of a column of {dtype} is missing or not whole")
    narrow = found.astype(dtype)
    if dtype.kind in "iu" and not np.array_equal(narrow, found):
        raise ValueError(f"a value does not fit into a column of {dtype}")
    return narrow


def _objects(pandas: Any, values: Sequence[Any], missing: Any) -> Any:
    found = np.empty(len(values), dtype=object)
    found[:] = [missing if one is None else one for one in values]
    # Of an array of texts, pandas 3 makes a column of texts.
    return pandas.Series(found, dtype=object, copy=False)


def _dates(pandas: Any, values: Sequence[Any], dtype: str) -> Any:
    zoned = "," in dtype
    return pandas.Series(pandas.to_datetime(list(values), format="ISO8601", utc=zoned)).astype(dtype).array
