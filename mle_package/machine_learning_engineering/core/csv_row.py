"""Examples from CSV rows: each cell becomes a JSON value of the kind that its field accepts."""

from collections.abc import Mapping
from typing import Any

import msgspec
from msgspec import Struct, inspect

from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.json_values import value_of_cell
from machine_learning_engineering.core.types import json_kinds

__all__ = ["LAYER_FIELDS", "example_from_row", "label_of_cell"]

LAYER_FIELDS = ("record", "source", "group")
"""Columns of a stored layer besides the fields of an example."""


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
        features[name] = _value(cell, json_kinds(inspect.type_info(types.get(name, Any))))
    if not (label := row.get(label_name, "")):
        raise ValueError(f"there is no label in the column `{label_name}`")
    group = None if "group" in types else row.get("group") or None
    return Example(features, label_of_cell(label, label_type), group)


def label_of_cell(cell: str | None, label_type: Any) -> Any:
    """Convert a CSV cell to a label of the kind that `label_type` accepts, if possible."""
    if not cell:
        return None
    accepted = json_kinds(inspect.type_info(label_type))
    if accepted == {"bool"}:
        return {"0": False, "1": True, "false": False, "true": True}.get(cell.lower(), value_of_cell(cell))
    return _value(cell, accepted)


def _value(cell: str, accepted: set[str]) -> Any:
    # The schema rejects what is not a valid value, and its message names the field.
    return cell if "string" in accepted else value_of_cell(cell)
