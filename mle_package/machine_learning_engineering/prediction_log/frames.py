"""Predictions and prediction records as data frames of pandas."""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec import UNSET

from machine_learning_engineering.core.frames import make_frame, prediction_columns, prediction_dtypes
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.events.schemas import Error

ERROR_COLUMNS = ("error_type", "error_message")
"""Of a row without a prediction; missing where there is one."""


def predictions_frame(
    model_class: type[Model],
    predictions: Sequence[Any],
    errors: Sequence[Error | None],
    *,
    index: Any = None,
    request_ids: Sequence[str] | None = None,
) -> Any:
    """A frame with the predictions of rows, in their order.

    Args:
        model_class: Its `Prediction` names and types the columns, see `core.frames.prediction_dtypes`.
        predictions: A `Prediction` for each row, None where there is none.
        errors: The error of each row without a prediction.
        index: The index of the frame.
        request_ids: A first column `request_id`.

    Returns:
        The columns of the prediction, such as ``prediction.price``, then `error_type` and `error_message`.
    """
    dtypes = prediction_dtypes(model_class)
    columns: dict[str, Sequence[Any]] = {} if request_ids is None else {"request_id": list(request_ids)}
    columns |= prediction_columns(dtypes, [None if one is None else msgspec.to_builtins(one) for one in predictions])
    columns["error_type"] = [error.type if error else None for error in errors]
    columns["error_message"] = [error.message if error else None for error in errors]
    return make_frame(columns, dtypes | dict.fromkeys(("request_id", *ERROR_COLUMNS), "string"), index=index)


def records_frame(records: Iterable[Any]) -> Any:
    """A frame of `PredictionRecord`, indexed by `request_id`, in their order.

    Columns: created_at (datetime64, UTC, microseconds), model, model_version, outcome, one column for each feature
    (``features.carat``), each field of the prediction (``prediction.price``, ``prediction.probabilities.positive``),
    label, label_source, error_type, error_message, score_seconds, batch_size and redacted (a list of names). Values
    have the types of their JSON. A label that is an object is one. Features that are no object are JSON text in the
    column `features`.

    Raises:
        ImportError: pandas is not installed.
    """
    found = list(records)
    columns: dict[str, list[Any]] = {
        name: [getattr(record, name) for record in found]
        for name in ("created_at", "model", "model_version", "outcome")
    }
    columns |= _members("features", [msgspec.json.decode(record.features) for record in found])
    columns |= _members("prediction", [_decoded(record.prediction) for record in found])
    columns["label"] = [_decoded(record.label) for record in found]
    for name in ("label_source", "score_seconds", "batch_size", "redacted"):
        columns[name] = [_set(getattr(record, name)) for record in found]
    columns["error_type"] = [None if record.error is UNSET else record.error.type for record in found]
    columns["error_message"] = [None if record.error is UNSET else record.error.message for record in found]
    texts = ("model", "model_version", "outcome", "label_source", *ERROR_COLUMNS)
    types = {"created_at": "datetime64[us, UTC]", "score_seconds": "float64", "batch_size": "int64"}
    types |= dict.fromkeys(texts, "string") | {"redacted": "object"}
    frame = make_frame(
        {"request_id": [record.request_id for record in found], **columns}, types | {"request_id": "str"}
    )
    return frame.set_index("request_id")


def _members(name: str, values: list[Any]) -> dict[str, list[Any]]:
    """A column for each member of the objects among values; other values are JSON text."""
    found: dict[str, list[Any]] = {}
    for number, value in enumerate(values):
        if value is None and name != "features":
            continue
        plain = value if isinstance(value, dict) else {"": msgspec.json.encode(value).decode()}
        for member, one in _flat(name, plain):
            found.setdefault(member, [None] * len(values))[number] = one
    return found


def _flat(prefix: str, value: dict[str, Any]) -> Iterable[tuple[str, Any]]:
    for name, one in value.items():
        path = f"{prefix}.{name}" if name else prefix
        if isinstance(one, dict):
            yield from _flat(path, one)
        else:
            yield path, one


def _decoded(value: Any) -> Any:
    return None if value is UNSET else msgspec.json.decode(value)


def _set(value: Any) -> Any:
    return None if value is UNSET else value
