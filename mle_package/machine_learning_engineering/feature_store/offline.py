"""Rows of a feature view as parquet files with typed columns. pyarrow, an extra, loads when a file is touched."""

import time
import uuid
from collections.abc import Sequence
from datetime import datetime
from hashlib import blake2b
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import msgspec
import numpy as np
from msgspec import NODEFAULT, Struct, inspect
from numpy.typing import NDArray

from machine_learning_engineering.core import files as durable
from machine_learning_engineering.core.extras import pyarrow
from machine_learning_engineering.core.types import alternatives

F = TypeVar("F", bound=Struct)
_WHAT = "the feature store"
KEY, TIME, DIGEST = "_key", "_at", "_digest"
_KINDS: dict[type, str] = {
    inspect.FloatType: "float64",
    inspect.IntType: "int64",
    inspect.BoolType: "bool",
    inspect.StrType: "string",
    inspect.NoneType: "null",
}
_LITERALS: dict[type, str] = {str: "string", int: "int64", type(None): "null"}


class FeatureStoreError(Exception):
    """The store can't be read or written; the message names the file and says why."""


class StoredRow(NamedTuple):
    """A key, its time in microseconds since 1970, and its values as JSON text."""

    key: str
    at: int
    record: bytes


class Table:
    """Rows of one view in memory, by column."""

    def __init__(self, keys: list[str], times: NDArray[np.int64], columns: Any, features: type[Any]) -> None:
        self.keys = keys
        self.times = times
        self._columns = columns
        self._features = features
        self._fields = _columns(features)
        self._values: dict[str, list[Any]] | None = None

    def features(self, index: int) -> Any:
        """The values of a row."""
        if self._values is None:
            self._values = {name: self._columns.column(name).to_pylist() for name in self._fields}
        record: dict[str, Any] = {}
        for name, (kind, omit) in self._fields.items():
            value = self._values[name][index]
            if value is None and omit:
                continue
            record[name] = msgspec.json.decode(value) if kind == "json" and value is not None else value
        return _convert(record, self._features)


def decode(record: bytes, features: type[F]) -> F:
    """
    Raises:
        FeatureStoreError: the values do not fit the view's Struct.
    """
    return _convert(msgspec.json.decode(record), features)


def add(folder: Path, features: type[Struct], rows: Sequence[StoredRow]) -> int:
    """Add the rows that the folder of a day does not have yet, as one file; how many there were."""
    pa, pq = pyarrow(_WHAT)
    # Of each key and time the row that counts.
    known: dict[tuple[str, int], bytes] = {}
    for file in sorted(folder.glob("*.parquet")):
        found = _read(file, [KEY, TIME, DIGEST])
        times = found.column(TIME).cast(pa.int64()).to_pylist()
        for key, at, digest in zip(found.column(KEY).to_pylist(), times, found.column(DIGEST).to_pylist(), strict=True):
            known[key, at] = digest
    new: list[StoredRow] = []
    digests: list[bytes] = []
    for row in rows:
        digest = blake2b(row.record, digest_size=16).digest()
        if known.get((row.key, row.at)) != digest:
            known[row.key, row.at] = digest
            new.append(row)
            digests.append(digest)
    if not new:
        return 0
    fields = _columns(features)
    records = [msgspec.to_builtins(decode(row.record, features)) for row in new]
    columns: dict[str, Any] = {
        KEY: pa.array([row.key for row in new], pa.string()),
        TIME: pa.array([row.at for row in new], pa.timestamp("us", "UTC")),
        DIGEST: pa.array(digests, pa.binary(16)),
    }
    try:
        for name, (kind, _) in fields.items():
            values = [record.get(name) if kind != "json" else _json(record, name) for record in records]
            columns[name] = pa.array(values, _type(pa, kind))
    except (OverflowError, pa.ArrowException) as error:
        raise FeatureStoreError(f"values of `{name}` can't be stored: {error}") from error
    # The names sort by the time of writing.
    path = folder / f"{time.time_ns() // 1_000:020}-{uuid.uuid4().hex[:8]}.parquet"
    content = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), content, compression="zstd")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        durable.replace(path, content.getvalue().to_pybytes())
    except OSError as error:
        raise FeatureStoreError(f"{path} can't be written: {error}") from error
    return len(new)


def read(files: Sequence[Path], features: type[Struct]) -> Table:
    """All rows of files, in their order. A column that an older file lacks is null there."""
    pa, _ = pyarrow(_WHAT)
    fields = _columns(features)
    schema = pa.schema(
        [(KEY, pa.string()), (TIME, pa.timestamp("us", "UTC"))]
        + [(name, _type(pa, kind)) for name, (kind, _) in fields.items()]
    )
    tables = []
    for file in files:
        found = _read(file, None)
        try:
            columns = [
                found.column(field.name).cast(field.type)
                if field.name in found.column_names
                else pa.nulls(found.num_rows, field.type)
                for field in schema
            ]
        except pa.ArrowException as error:
            raise FeatureStoreError(f"{file} was written for other features: {error}") from error
        tables.append(pa.table(columns, schema=schema))
    whole = pa.concat_tables(tables) if tables else schema.empty_table()
    times = whole.column(TIME).cast(pa.int64()).to_numpy()
    return Table(whole.column(KEY).to_pylist(), times, whole, features)


def extent(files: Sequence[Path]) -> tuple[int, datetime, datetime]:
    """The number of rows, the first and the last time in files, from their footers."""
    pa, pq = pyarrow(_WHAT)
    rows = 0
    times: list[datetime] = []
    for file in files:
        try:
            footer = pq.read_metadata(file)
            rows += footer.num_rows
            column = footer.schema.names.index(TIME)
            for group in range(footer.num_row_groups):
                statistics = footer.row_group(group).column(column).statistics
                times += [statistics.min, statistics.max]
        except (OSError, ValueError, AttributeError, pa.ArrowException) as error:
            raise FeatureStoreError(f"{file} can't be read: {error}") from error
    return rows, min(times), max(times)


def _read(file: Path, columns: list[str] | None) -> Any:
    pa, pq = pyarrow(_WHAT)
    try:
        return pq.ParquetFile(file).read(columns=columns)
    except (OSError, KeyError, pa.ArrowException) as error:
        raise FeatureStoreError(f"{file} can't be read: {error}") from error


def _columns(features: type[Struct]) -> dict[str, tuple[str, bool]]:
    """The kind of column of each field, and whether a null in it means that the field is left out.

    A null must mean one thing only. Where it could mean two, or the type is no plain one, the column is "json": JSON
    text, null for what is left out.
    """
    found: dict[str, tuple[str, bool]] = {}
    for field in msgspec.structs.fields(features):
        kinds = _kinds(inspect.type_info(field.type))
        takes_null = "null" in kinds
        kinds.discard("null")
        kind = kinds.pop() if len(kinds) == 1 else "json"
        if kind == "json" or (takes_null and field.default not in (None, NODEFAULT)):
            found[field.encode_name] = "json", True
        else:
            found[field.encode_name] = kind, not takes_null
    return found


def _kinds(info: Any) -> set[str]:
    """The kinds of column that a type would need, "null" among them."""
    found: set[str] = set()
    for one in alternatives(info):
        if isinstance(one, inspect.LiteralType):
            found |= {_LITERALS.get(type(value), "json") for value in one.values}
        else:
            found.add(_KINDS.get(type(one), "json"))
    return found


def _type(pa: Any, kind: str) -> Any:
    types = {"json": pa.string, "string": pa.string, "bool": pa.bool_, "int64": pa.int64, "float64": pa.float64}
    return types[kind]()


def _json(record: dict[str, Any], name: str) -> str | None:
    return msgspec.json.encode(record[name]).decode() if name in record else None


def _convert(record: Any, features: type[F]) -> F:
    try:
        return msgspec.convert(record, features)
    except msgspec.ValidationError as error:
        raise FeatureStoreError(f"stored values do not fit {features.__name__} (any more): {error}") from error
