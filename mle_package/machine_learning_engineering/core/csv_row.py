"""Examples from CSV rows: each cell becomes a JSON value of the kind that its field accepts."""

import re
from collections.abc import Mapping
from functools import lru_cache
from math import isfinite
from typing import Any

import msgspec
from msgspec import Struct, inspect

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.json_values import plain_scalar, value_of_cell
from machine_learning_engineering.core.types import json_kinds

__all__ = ["LAYER_FIELDS", "example_from_row", "label_of_cell", "label_of_value", "number_of_cell", "value_of"]

LAYER_FIELDS = ("record", "source", "group")
"""Columns of a stored layer besides the fields of an example."""
_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\Z")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]")
_BOOLEANS = {"0": False, "1": True, "0.0": False, "1.0": True, "false": False, "true": True}


def example_from_row(row: Mapping[str, str], features_type: type[Struct], label_type: Any, label_name: str) -> Example:
    """Convert a CSV row to an example.

    Args:
        row: Cells by column name. An empty cell is a missing value.
        features_type: The model's `Features`.
        label_type: The model's `Label`.
        label_name: Column of the label.

    Raises:
        ValueError: The row is not an example. The message names the column.
    """
    features: dict[str, Any] = {}
    types = {field.encode_name: field.type for field in msgspec.structs.fields(features_type)}
    for name, cell in row.items():
        if name == label_name or (name in LAYER_FIELDS and name not in types) or cell == "":
            continue
        if name == "":
            raise ValueError(
                "a column has no name, such as the index that pandas writes: omit it with to_csv(index=False)"
            )
        features[name] = value_of(cell, types.get(name, Any))
    if not (label := row.get(label_name, "")):
        raise ValueError(f"there is no label in the column `{label_name}`")
    group = None if "group" in types else row.get("group") or None
    return Example(features, label_of_cell(label, label_type), group)


def label_of_cell(cell: str | None, label_type: Any) -> Any:
    """Convert a CSV cell to a label of the kind that `label_type` accepts, if possible."""
    return label_of_value(value_of(cell, label_type), label_type) if cell else None


def label_of_value(value: Any, label_type: Any) -> Any:
    """Convert a label from a file to a JSON value that `label_type` accepts, if possible; else return it unchanged.

    A label has one type, however its file spells it: 1, 1.0, "1" and "true" are true for a `bool`, 3.0 is 3 for an
    `int`, and 5 is "5" for a `str`.
    """
    if type(value).__module__ == "numpy":
        # A cell of a data frame.
        value = plain_scalar(value)
    try:
        msgspec.convert(value, label_type)
        return value
    except msgspec.ValidationError:
        spellings = [value]
    if isinstance(value, float) and value.is_integer():
        spellings.append(int(value))
    if isinstance(value, int | float) and not isinstance(value, bool):
        spellings.append(msgspec.json.encode(value).decode())
    for one in spellings:
        try:
            return msgspec.to_builtins(msgspec.convert(one, label_type, strict=False))
        except (msgspec.ValidationError, OverflowError):
            continue
    return value


def _kinds(field_type: Any) -> frozenset[str]:
    return frozenset(json_kinds(inspect.type_info(field_type)) - {"null"})


# A file has a cell for each field in each row, and looking at a type takes longer than all else here.
_remembered_kinds = lru_cache(maxsize=1024)(_kinds)


def value_of(cell: str, field_type: Any) -> Any:
    """Convert a CSV cell that is not empty to a JSON value of the kind that a field accepts, if possible."""
    try:
        accepted = _remembered_kinds(field_type)
    except TypeError:
        # Annotations may hold lists, such as examples: those types have no hash.
        accepted = _kinds(field_type)
    if "string" in accepted:
        # The schema rejects an invalid value, and its message names the field.
        return cell
    if accepted == {"bool"}:
        return _BOOLEANS.get(cell.strip().lower(), value_of_cell(cell))
    if "number" in accepted and (number := number_of_cell(cell.strip())) is not None:
        return number
    return value_of_cell(cell)


def number_of_cell(cell: str) -> int | float | None:
    """Parse a cell that is a plain number, such as ``-2``, ``.5`` or ``1e3``; None for anything else.

    ``007`` is no number: it would lose its zeros. Neither are ``nan`` and what is too large for a float.
    """
    if not _NUMBER.match(cell) or _LEADING_ZERO.match(cell):
        return None
    if _INTEGER.match(cell) and len(cell) < 19:
        return int(cell)
    number = float(cell)
    return number if isfinite(number) else None
