"""The declaration of a column: from a sample, and from the encoders and imputers that see it."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from msgspec import UNSET

from machine_learning_engineering.adoption.encoders import Encoded
from machine_learning_engineering.adoption.frames import NONE_OBJECT
from machine_learning_engineering.declaration.schema import FeatureDeclaration

__all__ = ["Column", "describe", "described_without_sample"]

MAX_KNOWN = 200
_OF_SIGNATURE = {
    "boolean": ("bool", ""),
    "integer": ("int", "int32"),
    "long": ("int", ""),
    "float": ("float", "float32"),
    "double": ("float", ""),
    "string": ("text", ""),
    "datetime": ("text", "datetime64[ns]"),
}


class Column(NamedTuple):
    """A feature, and what a person should know of it."""

    feature: FeatureDeclaration
    notes: tuple[str, ...] = ()


def describe(frame: Any, encoded: Mapping[str, Encoded], imputed: Mapping[str, bool]) -> dict[str, Column]:
    """Describe the columns of a sample.

    Args:
        frame: The estimator's columns of the sample.
        encoded: What encoders know of columns.
        imputed: Columns whose imputer looks for None (True) or NaN.
    """
    return {
        str(name): _described(str(name), frame[name], encoded.get(str(name)), imputed.get(str(name))) for name in frame
    }


def described_without_sample(
    names: Sequence[str], encoded: Mapping[str, Encoded], signature: Any, form: str
) -> dict[str, Column]:
    """Describe columns by a signature, or else by the values that encoders know."""
    types = {column.name: column.type for column in signature.inputs} if signature else {}
    found = {}
    for name in names:
        known = encoded[name].categories if name in encoded else ()
        if name in types:
            kind, dtype = _OF_SIGNATURE.get(types[name], ("text", ""))
        elif form == "column" or any(isinstance(value, str) for value in known):
            kind, dtype = "text", ""
        else:
            kind, dtype = ("bool", "") if known and all(isinstance(value, bool) for value in known) else ("float", "")
        found[name] = Column(_declared(kind, dtype, False, encoded.get(name), (), UNSET, UNSET))
    return found


def _described(name: str, column: Any, known: Encoded | None, wants_none: bool | None) -> Column:
    present = column.dropna()
    missing = len(present) < len(column)
    dtype = str(column.dtype)
    values = present.tolist()
    example = _example(values)
    if dtype == "category":
        categories = tuple(_scalar(one) for one in column.cat.categories.tolist())
        kind = _kind_of(categories)
        declared = _declared(kind, dtype, missing, None, categories, UNSET, example)
        return Column(declared, _empty(name, present))
    kind_code = getattr(column.dtype, "kind", "O")
    if kind_code == "M":
        day = present.iloc[0].isoformat() if values else UNSET
        return Column(_declared("text", dtype, missing, None, (), UNSET, day))
    if kind_code in "biuf" and dtype not in ("boolean",):
        return _number(name, present, missing, known, dtype, example)
    if dtype == "boolean" or (values and all(isinstance(one, bool | np.bool_) for one in values)):
        return Column(_declared("bool", dtype if dtype == "boolean" else "object", missing, None, (), UNSET, example))
    if dtype == "object":
        if values and all(isinstance(one, int | float) and not isinstance(one, bool) for one in values):
            kind = "int" if all(isinstance(one, int) for one in values) else "float"
            return Column(_declared(kind, _objects(column, known, wants_none), missing, known, (), UNSET, example))
        if not all(isinstance(one, str) for one in values):
            note = f"{name} holds other values than texts, which become texts: give the sample one type in this column"
            return Column(_declared("text", dtype, missing, known, (), UNSET, example), (note,))
        return Column(_declared("text", _objects(column, known, wants_none), missing, known, (), UNSET, example))
    if not values and dtype not in ("str", "string"):
        return Column(_declared("text", dtype, missing, known, (), UNSET, UNSET), _empty(name, present))
    return Column(
        _declared("text", "" if dtype == "str" else dtype, missing, known, (), UNSET, example), _empty(name, present)
    )


def _number(name: str, present: Any, missing: bool, known: Encoded | None, dtype: str, example: Any) -> Column:
    code = present.dtype.kind
    if code == "b":
        return Column(_declared("bool", "", missing, None, (), UNSET, example))
    kind = "int" if code in "iu" else "float"
    finite = present[np.isfinite(present.to_numpy(dtype=float, na_value=np.nan))]
    limits = (float(finite.min()), float(finite.max())) if len(finite) and known is None else UNSET
    plain = "int64" if kind == "int" else "float64"
    return Column(
        _declared(kind, "" if dtype == plain else dtype, missing, known, (), limits, example), _empty(name, present)
    )


def _objects(column: Any, known: Encoded | None, wants_none: bool | None) -> str:
    """``object`` with NaN or with None where a value is missing: as in the sample, or else as the pipeline knows it."""
    holes = column[column.isna()].tolist()
    if holes:
        return NONE_OBJECT if all(one is None for one in holes) else "object"
    return NONE_OBJECT if wants_none or (wants_none is None and known is not None and known.has_none) else "object"


def _declared(
    kind: Any, dtype: str, missing: bool, known: Encoded | None, categories: tuple[Any, ...], limits: Any, example: Any
) -> FeatureDeclaration:
    values = categories
    refuses = False
    if known is not None and kind != "bool":
        refuses = known.refuses
        values = tuple(_as(kind, _scalar(one)) for one in known.categories)
        if len(values) > MAX_KNOWN and not refuses:
            values = ()
    return FeatureDeclaration(
        kind,
        dtype=dtype,
        missing="ok" if missing else "refuse",
        known=values,
        others="refuse" if refuses else "count",
        range=limits,
        example=example,
    )


def _kind_of(categories: Sequence[Any]) -> str:
    for kind, types in (("bool", bool), ("int", int), ("float", float)):
        if categories and all(type(one) is types for one in categories):
            return kind
    return "text"


def _as(kind: str, value: Any) -> Any:
    if kind == "int" and isinstance(value, float) and value.is_integer():
        return int(value)
    if kind == "float" and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    return value


def _example(values: Sequence[Any]) -> Any:
    if not values:
        return UNSET
    found = _scalar(values[0])
    return found if isinstance(found, bool | int | float | str) else str(found)


def _scalar(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value


def _empty(name: str, present: Any) -> tuple[str, ...]:
    return () if len(present) else (f"{name} has no value in the sample: its type is a guess",)
