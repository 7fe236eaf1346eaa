"""Columns of scored rows as pyarrow has them, and as lines of JSON and CSV."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Raw, inspect

from machine_learning_engineering.core.extras import require
from machine_learning_engineering.core.frames import PREDICTION, prediction_columns
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.core.types import column_kinds, leaves

if TYPE_CHECKING:
    import pyarrow as pa

FILE, ROW, VERSION = "input_file", "input_row", "model_version"
POSITION = (FILE, ROW, VERSION)
"""Columns of each scored row, besides those carried through and the prediction."""
_LISTS = (inspect.ListType, inspect.VarTupleType, inspect.SetType, inspect.FrozenSetType)


def output_schema(model_class: type[Model], kept: "Mapping[str, pa.DataType]") -> "pa.Schema":
    """Columns of the output: position, those carried through, and one for each field of the prediction.

    A field has the type that it declares, whatever its values are; one that may be of several types, or a mapping, is
    JSON text.
    """
    pa = require("pyarrow", "parquet")
    fields = [(FILE, pa.string()), (ROW, pa.int64()), (VERSION, pa.string()), *kept.items()]
    fields += [(PREDICTION + name, _arrow(pa, info)) for name, info in leaves(model_class.Prediction)]
    return pa.schema(fields)


def prediction_arrays(schema: "pa.Schema", predictions: Sequence[Any]) -> "dict[str, pa.Array]":
    """Columns of predictions, which are `Prediction` values."""
    pa = require("pyarrow", "parquet")
    names = [name for name in schema.names if name.startswith(PREDICTION)]
    found = prediction_columns(names, msgspec.to_builtins(list(predictions)))
    arrays = {}
    for name, values in found.items():
        kind = schema.field(name).type
        texts = pa.types.is_string(kind) and any(not isinstance(value, str | None) for value in values)
        arrays[name] = pa.array(list(map(json_text, values)) if texts else values, kind)
    return arrays


def kept_array(values: Any, kind: "pa.DataType", chosen: Sequence[int]) -> "pa.Array":
    """The chosen rows of a carried column. A JSON value that is no text is carried as its JSON text."""
    pa = require("pyarrow", "parquet")
    if isinstance(values, list):
        return pa.array([_text(values[index]) for index in chosen], kind)
    taken = values.combine_chunks() if hasattr(values, "combine_chunks") else values
    return taken.take(pa.array(chosen, pa.int64())).cast(kind)


def plain_values(values: Any, chosen: Sequence[int]) -> list[Any]:
    """The chosen rows of a carried column as JSON values."""
    if isinstance(values, list):
        return [values[index] for index in chosen]
    pa = require("pyarrow", "parquet")
    found: list[Any] = values.take(pa.array(chosen, pa.int64())).to_pylist()
    return found


def json_text(value: Any) -> str | None:
    """JSON text of a value; None for a missing one, and a text as it is."""
    if value is None or isinstance(value, str):
        return value
    return msgspec.json.encode(value, enc_hook=str).decode()


def _text(value: Any) -> str | None:
    if isinstance(value, Raw):
        raw = bytes(value)
        if raw == b"null":
            return None
        return str(msgspec.json.decode(raw)) if raw.startswith(b'"') else raw.decode()
    return json_text(value)


def _arrow(pa: Any, info: inspect.Type) -> Any:
    kinds = column_kinds(info) - {"null"}
    if kinds == {"int64", "float64"}:
        return pa.float64()
    if len(kinds) == 1 and kinds != {"json"}:
        return pa.type_for_alias(*kinds)
    inner = info.type if isinstance(info, inspect.Metadata) else info
    if (
        isinstance(inner, _LISTS)
        and len(kinds := column_kinds(inner.item_type)) == 1
        and kinds <= {"float64", "string"}
    ):
        return pa.list_(pa.type_for_alias(*kinds))
    return pa.string()
