"""Data layers of a training, each a dated parquet file with its own id.

- bronze: the records as they were read, features and labels as JSON text. Raw files are copied beside it.
- silver: the records that the model's schema accepts, with one typed column per field, and the label.
- gold: the inputs of the estimator, one column each, with the label and the part of the row ("fit" or "held-out").

Silver also has the columns `record` and `group`, and gold has `record`, unless the model has a field or input with that
name.

Files are written atomically. The schema's metadata describes the file (`Layer`, under the key ``inflight.layer``).
"""

import hashlib
import io
import uuid
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Literal

import msgspec
import numpy as np
from msgspec import Struct, inspect

from machine_learning_engineering.core.column_map import plain_cell
from machine_learning_engineering.core.frames import is_series
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.core.types import column_kinds
from machine_learning_engineering.core.validation import InvalidFeatures
from machine_learning_engineering.evaluation.splits import split_key
from machine_learning_engineering.storage.location import Place
from machine_learning_engineering.storage.opening import open_store, read_file
from machine_learning_engineering.training.records import Record, Source, decode_label

if TYPE_CHECKING:
    import pyarrow as pa

FIT, HELD_OUT = "fit", "held-out"
"""Values of the column `part` of a gold layer."""
_METADATA = b"inflight.layer"
_MAX_PROBLEMS = 10


class BadData(InvalidFeatures):
    """Records that no model may be trained on. The message names at most ten by source and line."""


class Layer(Struct, frozen=True):
    """Description of a layer. `parents` are the ids of the layers that it was made from."""

    id: str
    kind: Literal["bronze", "silver", "gold"]
    model: str
    created_at: datetime
    path: str
    rows: int
    sha256: str = ""
    """Digest of the file; empty within the file itself."""
    parents: tuple[str, ...] = ()
    sources: tuple[Source, ...] = ()


class Rows(Struct, frozen=True):
    """Accepted records: decoded features, labels and split keys (`evaluation.splits.split_key`)."""

    rows: list[Any]
    labels: list[Any]
    groups: list[bytes]


# --- bronze to silver: what is accepted ------------------------------------------------------------------------------


def validate(model: Model, records: Sequence[Record]) -> Rows:
    """Decode records like requests and check their labels.

    Rows with equal features share a split key, so no held-out row was fitted on.

    Raises:
        BadData: A record does not fit the schema, or all labels are equal or of several types.
    """
    rows, labels, groups = [], [], []
    problems = []
    for record in records:
        where = f"{record.source} line {record.number}"
        try:
            row = model.decode(record.features)
        except InvalidFeatures as error:
            problems.append(f"{where}: {error}")
            continue
        try:
            label = decode_label(type(model).Label, record.label)
        except msgspec.MsgspecError as error:
            problems.append(f"{where}: label `{model.label_name}`: {error}")
            continue
        rows.append(row)
        labels.append(label)
        groups.append(split_key(record.group, row))
    if problems:
        more = f"\n... and {len(problems) - _MAX_PROBLEMS} more" if len(problems) > _MAX_PROBLEMS else ""
        count = f"{len(problems)} of {len(records)} records are invalid"
        raise BadData(f"{count}:\n" + "\n".join(problems[:_MAX_PROBLEMS]) + more)
    if len(types := {type(label) for label in labels}) > 1 and types != {int, float}:
        raise BadData(f"labels are of several types: {', '.join(sorted(one.__name__ for one in types))}")
    if labels and all(label == labels[0] for label in labels):
        raise BadData(f"all {len(labels)} labels are {labels[0]!r}: there is nothing to learn")
    return Rows(rows, labels, groups)


# --- the columns of each layer ---------------------------------------------------------------------------------------


def bronze_table(records: Sequence[Record]) -> "pa.Table":
    """One line per record, as it was read."""
    import pyarrow as pa

    return pa.table(
        {
            "source": pa.array([record.source for record in records], pa.string()),
            "number": pa.array([record.number for record in records], pa.int64()),
            "group": pa.array([record.group for record in records], pa.string()),
            "features": pa.array([record.features.decode() for record in records], pa.string()),
            "label": pa.array([record.label.decode() for record in records], pa.string()),
        }
    )


def silver_table(model: Model, found: Rows, records: Sequence[Record]) -> "pa.Table":
    """One line per accepted record; `record` is its index in the bronze layer.

    Raises:
        ValueError: The label has the name of a feature or of a column of all layers.
    """
    import pyarrow as pa

    columns = {
        "record": pa.array(range(len(records)), pa.int64()),
        "group": pa.array([record.group for record in records], pa.string()),
    }
    fields = msgspec.structs.fields(model.Features)
    _refuse(model, "label", {model.label_name} & {"record", "group", "part", *model.Features.__struct_encode_fields__})
    for field in fields:
        kind = _arrow(inspect.type_info(field.type))
        values = msgspec.to_builtins([getattr(row, field.name) for row in found.rows])
        columns[field.encode_name] = (
            pa.array(map(_json, values), pa.string()) if kind is None else pa.array(values, kind)
        )
    columns[model.label_name] = pa.array(found.labels, _arrow_of_labels(model, found.labels))
    return pa.table(columns)


def gold_table(model: Model, found: Rows, held_out: Sequence[int]) -> "pa.Table":
    """One line per row of the silver layer, in its order.

    Raises:
        ValueError: The number of input names is wrong, or an input is named `part` or like the label.
    """
    import pyarrow as pa

    inputs = _inputs(model, model.build_inputs(found.rows))
    _refuse(model, "input", {"part", model.label_name} & inputs.keys())
    parts = [FIT] * len(found.rows)
    for index in held_out:
        parts[index] = HELD_OUT
    columns = {"record": pa.array(range(len(found.rows)), pa.int64()), "part": pa.array(parts, pa.string()), **inputs}
    columns[model.label_name] = pa.array(found.labels, _arrow_of_labels(model, found.labels))
    return pa.table(columns)


def _refuse(model: Model, what: str, taken: set[str]) -> None:
    if taken:
        raise ValueError(
            f"the {what} `{min(taken)}` of {type(model).__name__} has the name of a column of the layers: rename it"
        )


def _inputs(model: Model, inputs: Any) -> "dict[str, pa.Array]":
    import pyarrow as pa

    if hasattr(inputs, "tocsr"):  # Sparse: one column of positions and one of values that are not 0.
        csr = inputs.tocsr()
        return {
            "input_indices": pa.ListArray.from_arrays(
                pa.array(csr.indptr, pa.int32()), pa.array(csr.indices, pa.int32())
            ),
            "input_values": pa.ListArray.from_arrays(
                pa.array(csr.indptr, pa.int32()), pa.array(csr.data, pa.float64())
            ),
        }
    columns: list[Any]
    if hasattr(inputs, "columns") and hasattr(inputs, "to_numpy"):  # A data frame of any library.
        found = list(map(str, inputs.columns))
        if len(set(found)) < len(found):
            raise ValueError(f"{type(model).__name__}.build_inputs returns two columns of one name: {', '.join(found)}")
        columns = [inputs[name] for name in inputs.columns]
    else:
        matrix = np.asarray(inputs)
        columns = [matrix] if matrix.ndim == 1 else list(matrix.T)
        found = [f"input_{index}" for index in range(len(columns))]
    names = model.feature_names_in or found
    if len(names) != len(columns):
        raise ValueError(f"{type(model).__name__}.feature_names_in has {len(names)} names for {len(columns)} columns")
    return {name: _input_column(column) for name, column in zip(names, columns, strict=True)}


def _input_column(values: Any) -> "pa.Array":
    """A column of inputs; where values have several types or none that parquet knows, as text."""
    import pyarrow as pa

    try:
        if is_series(values):
            # By its own type: nullable ones have no NaN, and categories are kept.
            return pa.Array.from_pandas(values)
        values = np.asarray(values)
        # Objects may hold NaN for a missing string.
        return pa.array(np.ascontiguousarray(values), from_pandas=values.dtype == object)
    except (pa.ArrowInvalid, pa.ArrowTypeError, pa.ArrowNotImplementedError):
        return pa.array([None if plain_cell(value) is None else str(value) for value in values.tolist()], pa.string())


def _arrow(info: inspect.Type) -> Any:
    """Parquet type of a field; None if its values are written as JSON text."""
    import pyarrow as pa

    kinds = column_kinds(info) - {"null"}
    if kinds == {"int64", "float64"}:
        return pa.float64()
    if len(kinds) == 1 and kinds != {"json"}:
        return pa.type_for_alias(*kinds)
    return None


def _arrow_of_labels(model: Model, labels: Sequence[Any]) -> Any:
    import pyarrow as pa

    declared = _arrow(inspect.type_info(type(model).Label))
    if declared is not None or not labels:
        return declared or pa.string()
    return pa.float64() if {type(label) for label in labels} == {int, float} else pa.array(labels[:1]).type


def _json(value: Any) -> str | None:
    return None if value is None else msgspec.json.encode(value).decode()


# --- files -----------------------------------------------------------------------------------------------------------


def write(
    folder: Place,
    kind: Literal["bronze", "silver", "gold"],
    model: Model,
    table: "pa.Table",
    *,
    parents: Sequence[Layer] = (),
    sources: Sequence[Source] = (),
) -> Layer:
    """Write a layer to ``<folder>/<model>/<kind>/<id>.parquet``; the id includes the time in UTC.

    Raises:
        OSError: It can't be written; there is no partial file.
    """
    import pyarrow.parquet as pq

    now = datetime.now(UTC)
    name = f"{kind}-{now:%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"
    store, key = open_store(folder), f"{model.name}/{kind}/{name}.parquet"
    layer = Layer(
        id=name,
        kind=kind,
        model=model.name,
        created_at=now,
        path=f"{store.url}/{key}",
        rows=table.num_rows,
        parents=tuple(parent.id for parent in parents),
        sources=tuple(sources),
    )
    buffer = io.BytesIO()
    pq.write_table(table.replace_schema_metadata({_METADATA: msgspec.json.encode(layer)}), buffer)
    content = buffer.getvalue()
    store.write_if_absent(key, content)
    return msgspec.structs.replace(layer, sha256=hashlib.sha256(content).hexdigest())


def read(path: Place) -> "tuple[Layer, pa.Table]":
    """Read a layer and its table, from a file or the URL of one.

    Raises:
        ValueError: The file is not a layer.
        OSError: It can't be read.
    """
    import pyarrow.parquet as pq

    table = pq.read_table(io.BytesIO(read_file(path)))
    if not (about := (table.schema.metadata or {}).get(_METADATA)):
        raise ValueError(f"{path} is a parquet file, but not a layer of a training")
    return msgspec.json.decode(about, type=Layer), table


def rows_of(model: Model, silver: "pa.Table") -> tuple[list[Any], list[Any]]:
    """Decoded rows and labels of a silver layer."""
    fields = msgspec.structs.fields(model.Features)
    encoded = {field.encode_name for field in fields if _arrow(inspect.type_info(field.type)) is None}
    names = [field.encode_name for field in fields]
    rows = []
    for found in silver.select(names).to_pylist():
        values = {name: msgspec.json.decode(v) if name in encoded and v is not None else v for name, v in found.items()}
        rows.append(msgspec.convert(values, model.Features))
    return rows, silver[model.label_name].to_pylist()
