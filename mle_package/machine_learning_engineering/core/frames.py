"""Data frames of pandas as rows, examples and labels, and back. pandas, an extra, is never imported to read one."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, cast

from machine_learning_engineering.core.column_map import (
    InvalidTable,
    Requests,
    encode_rows,
    map_columns,
    not_finite,
    plain_cell,
    refuse_others,
    rows_of_columns,
)
from machine_learning_engineering.core.csv_row import label_of_value
from machine_learning_engineering.core.example import Example
from machine_learning_engineering.core.extras import require
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.core.types import column_kinds, leaves

__all__ = [
    "examples_of",
    "is_frame",
    "is_series",
    "labels_of",
    "make_frame",
    "prediction_columns",
    "prediction_dtypes",
    "requests_of_frame",
]

REQUEST_ID, LABEL, GROUP = "request_id", "label", "group"
PREDICTION = "prediction."
"""Prefix of the columns of predictions."""
_DTYPES = {"float64": "float64", "int64": "Int64", "bool": "boolean", "string": "string"}


def is_frame(value: Any) -> bool:
    """Whether a value is a DataFrame of pandas, which nobody can have made before pandas was imported."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.DataFrame)


def is_series(value: Any) -> bool:
    """Whether a value is a Series of pandas."""
    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(value, pandas.Series)


def check_names(frame: Any) -> list[str]:
    """Names of the columns of a frame, as texts.

    Raises:
        InvalidTable: The names have several levels.
    """
    if frame.columns.nlevels > 1:
        raise InvalidTable("the columns of the frame have several levels: give each one name")
    return [str(name) for name in frame.columns]


def frame_values(frame: Any, names: Sequence[str]) -> dict[str, list[Any]]:
    """Values of columns of a frame, by their names as texts."""
    positions = {str(name): index for index, name in enumerate(frame.columns)}
    return {name: frame.iloc[:, positions[name]].tolist() for name in names}


def requests_of_frame(model_class: type[Model], frame: Any, *, allowed: Sequence[str] = ()) -> Requests:
    """Features of each row of a frame, as JSON text where they have a JSON form.

    Args:
        model_class: Its `Features` name the columns. The column of the label is ignored, and so are other columns if
            `Features` ignore unknown fields.
        frame: One row per request; the order of its columns is of no account.
        allowed: Columns that may be there besides.

    Raises:
        InvalidTable: A required feature has no column, a column is no feature, or two have one name.
    """
    return encode_rows(_rows(model_class, frame, [model_class.label_name, *allowed]))


def examples_of(model_class: type[Model], examples: Any) -> Iterable[Example]:
    """Labelled rows of a frame; anything else is returned as it is.

    Args:
        model_class: Its `Features` and `label_name` name the columns; a column `group` is optional.
        examples: A frame, or examples.

    Raises:
        InvalidTable: As `requests_of_frame`; or a row has no label, or an infinite number.
    """
    if not is_frame(examples):
        return cast(Iterable[Example], examples)
    name = model_class.label_name
    if name not in examples.columns:
        raise InvalidTable(f"the frame has no column `{name}` with the labels")
    grouped = GROUP in examples.columns and GROUP not in model_class.Features.__struct_encode_fields__
    rows = _rows(model_class, examples, [name, GROUP] if grouped else [name])
    labels = [plain_cell(value) for value in _one(examples, name).tolist()]
    groups = [plain_cell(value) for value in _one(examples, GROUP).tolist()] if grouped else [None] * len(rows)
    found = []
    for number, (row, label, group) in enumerate(zip(rows, labels, groups, strict=True)):
        if label is None:
            raise InvalidTable(f"{_where(examples, number)}: there is no label in column `{name}`: drop the row")
        if (infinite := not_finite(row)) is not None:
            raise InvalidTable(f"{_where(examples, number)}: column `{infinite}` must be a finite number")
        found.append(Example(row, label_of_value(label, model_class.Label), None if group is None else str(group)))
    return found


def labels_of(model_class: type[Model], labels: Any) -> Mapping[str, Any] | None:
    """Labels by request id, of a Series indexed by request ids, or of a frame; a mapping is returned as it is.

    Missing labels are left out. Of two labels of one request the last one counts, as in a file of labels.

    Args:
        model_class: A frame has the labels in its `label_name`, or else in `label`, and the request ids in
            `request_id`, or else as its index.
        labels: True values.

    Raises:
        InvalidTable: A column is missing, or a request id is no text.
    """
    if is_frame(labels):
        names = [name for name in (model_class.label_name, LABEL) if name in labels.columns]
        if not names:
            raise InvalidTable(f"the frame of labels has no column `{model_class.label_name}` or `{LABEL}`")
        ids = _one(labels, REQUEST_ID).tolist() if REQUEST_ID in labels.columns else labels.index.tolist()
        values = _one(labels, names[0]).tolist()
    elif is_series(labels):
        ids, values = labels.index.tolist(), labels.tolist()
    else:
        return cast(Mapping[str, Any] | None, labels)
    for number, one in enumerate(ids):
        if not isinstance(one, str):
            raise InvalidTable(
                f"{_where(labels, number)}: request ids are texts, not {type(one).__name__}: "
                f'give labels.set_index("{REQUEST_ID}"), with the ids that predict_with_logging returned'
            )
    plain = {one: plain_cell(value) for one, value in zip(ids, values, strict=True)}
    return {one: label_of_value(value, model_class.Label) for one, value in plain.items() if value is not None}


def column_texts(frame: Any, name: str) -> list[str]:
    """Texts of a column of a frame, such as request ids.

    Raises:
        InvalidTable: There is no such column, or a value is no text.
    """
    if name not in frame.columns:
        raise InvalidTable(f"the frame has no column `{name}` with the request ids")
    values: list[Any] = _one(frame, name).tolist()
    for number, value in enumerate(values):
        if not isinstance(value, str):
            raise InvalidTable(f"{_where(frame, number)}: column `{name}` holds no text, but {type(value).__name__}")
    return values


def prediction_dtypes(model_class: type[Model]) -> dict[str, str]:
    """Type of each column of predictions: one per field, such as ``prediction.price``, and one per member of an object
    within it, such as ``prediction.probabilities.positive``.

    They do not depend on the values: a missing value is NaN in ``float64``, and NA in ``Int64``, ``boolean`` and
    ``string``. Lists stay objects.
    """
    found = {}
    for name, info in leaves(model_class.Prediction):
        kinds = column_kinds(info) - {"null"}
        kind = "float64" if kinds == {"int64", "float64"} else next(iter(kinds), "") if len(kinds) == 1 else ""
        found[PREDICTION + name] = _DTYPES.get(kind, "object")
    return found


def prediction_columns(names: Iterable[str], predictions: Sequence[Any]) -> dict[str, list[Any]]:
    """Columns of predictions, which are JSON values; None where there is no prediction."""
    found = {}
    for name in names:
        steps = name.removeprefix(PREDICTION).split(".")
        values: list[Any] = list(predictions)
        for step in steps:
            values = [value.get(step) if isinstance(value, dict) else None for value in values]
        found[name] = values
    return found


def make_frame(
    columns: Mapping[str, Sequence[Any]], dtypes: Mapping[str, str] | None = None, *, index: Any = None
) -> Any:
    """A data frame.

    Args:
        columns: JSON values of each column; None is missing.
        dtypes: Types of columns; by default the narrowest that holds the values: ``bool``, ``int64``, ``float64``,
            ``string``, ``datetime64``, with pandas' nullable types where values are missing, or else ``object``.
        index: The index of the frame.

    Raises:
        ImportError: pandas is not installed.
    """
    pandas = require("pandas", "pandas")
    series = {
        name: _series(pandas, values, (dtypes or {}).get(name) or _dtype(values), index)
        for name, values in columns.items()
    }
    return pandas.DataFrame(series, index=index, columns=list(series))


def _series(pandas: Any, values: Sequence[Any], dtype: str, index: Any) -> Any:
    if dtype == "object":
        import numpy as np

        # Not from the list itself: pandas would make numbers of it.
        cells = np.empty(len(values), dtype=object)
        for number, value in enumerate(values):
            cells[number] = value
        return pandas.Series(cells, dtype="object", index=index)
    return pandas.Series(list(values), dtype=dtype, index=index)


def _dtype(values: Sequence[Any]) -> str:
    types = {type(value) for value in values if value is not None}
    complete = None not in values
    if not types or types == {bool}:
        return ("bool" if complete else "boolean") if types else "object"
    if types == {int}:
        small = all(abs(value) < 2**63 for value in values if value is not None)
        return ("int64" if complete else "Int64") if small else "object"
    if types <= {int, float}:
        return "float64"
    return "string" if types == {str} else "object"


def _rows(model_class: type[Model], frame: Any, allowed: Sequence[str]) -> list[dict[str, Any]]:
    found = map_columns(model_class.Features, check_names(frame), model_class.feature_paths)
    found.require(model_class.name, "the frame")
    # Adopted models ignore fields that their declaration does not name.
    if not getattr(model_class, "ignores_unknown_fields", False):
        refuse_others(found, model_class.name, model_class.Features, allowed)
    return rows_of_columns(model_class.Features, found, frame_values(frame, found.columns), len(frame))


def _one(frame: Any, name: str) -> Any:
    column = frame[name]
    if is_frame(column):
        raise InvalidTable(f"the frame has two columns named `{name}`: rename or drop one")
    return column


def _where(frame: Any, number: int) -> str:
    return f"row {number} (index {frame.index[number]!r:.100})"
