"""Offline store: rows of a feature view in parquet files with typed columns. pyarrow is imported on first use.

A folder holds the rows of one day. Each write adds a file; from `MAX_FILES` on they are merged into one, so that a day
of many small writes stays as quick to read as one of few. Names begin with the order of writing, ``<number>-<id>``, and
those of merged files with the range of what they replace, ``<first>-<last>-<id>``: after a crash between the writing of
a merged file and the removal of the others, these are ignored.
"""

import re
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
from machine_learning_engineering.core.extras import require
from machine_learning_engineering.core.types import column_kinds

F = TypeVar("F", bound=Struct)
KEY, TIME, DIGEST = "_key", "_at", "_digest"
MAX_FILES = 32
"""Files of a day from which on they are merged."""
_NAME = re.compile(r"(?P<first>\d{20})(-(?P<last>\d{20}))?-[0-9a-f]+\.parquet")


class FeatureStoreError(Exception):
    """The store can't be read or written. The message names the file and the reason."""


class StoredRow(NamedTuple):
    """A key, its time in microseconds since 1970, and its values as JSON."""

    key: str
    at: int
    record: bytes


class Table:
    """Rows of one view in memory, by column. `times` has shape (n,), in microseconds since 1970."""

    def __init__(self, keys: list[str], times: NDArray[np.int64], columns: Any, features: type[Any]) -> None:
        self.keys = keys
        self.times = times
        self._columns = columns
        self._features = features
        self._fields = _columns(features)
        self._values: dict[str, list[Any]] | None = None

    def features(self, index: int) -> Any:
        """The values of row `index` as the view's Struct."""
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
    """Decode the JSON values of a row.

    Raises:
        FeatureStoreError: The values do not fit the view's Struct.
    """
    try:
        values = msgspec.json.decode(record)
    except (ValueError, RecursionError) as error:
        raise FeatureStoreError(f"a stored row is damaged: {type(error).__name__}") from error
    return _convert(values, features)


def add(folder: Path, features: type[Struct], rows: Sequence[StoredRow]) -> int:
    """Write the rows that the folder of a day lacks to a new file. Returns the number of rows written."""
    pa, _ = _pyarrow()
    # Later files override earlier ones.
    files = data_files(folder)
    stored = _scan(files, [(DIGEST, pa.binary(16))], [])
    given = pa.array({row.key for row in rows}, pa.string())
    stored = stored.filter(require("pyarrow.compute", "parquet").is_in(stored.column(KEY), value_set=given))
    times = stored.column(TIME).cast(pa.int64()).to_pylist()
    known = dict(
        zip(zip(stored.column(KEY).to_pylist(), times, strict=True), stored.column(DIGEST).to_pylist(), strict=True)
    )
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
    # The time, for people; but never before the last file, whatever the clock says.
    number = max([time.time_ns() // 1_000, *(_range(file)[1] + 1 for file in files)])
    _write(folder / f"{number:020}-{uuid.uuid4().hex[:8]}.parquet", pa.table(columns))
    if len(files) + 1 >= MAX_FILES:
        compact(folder)
    return len(new)


def data_files(folder: Path) -> list[Path]:
    """The files of a day in order of writing, without those that a merged file replaces."""
    found = sorted(folder.glob("*.parquet"))
    ranges = {file: _range(file) for file in found}
    merged = {one for one in ranges.values() if one[0] < one[1]}
    return [
        file
        for file, (first, last) in ranges.items()
        if not any(low <= first and last <= high and (low, high) != (first, last) for low, high in merged)
    ]


def compact(folder: Path) -> None:
    """Merge the files of a day into one. Nobody else may write to the folder meanwhile; others may read it."""
    pa, pq = _pyarrow()
    files = data_files(folder)
    if len(files) > 1:
        try:
            whole = pa.concat_tables([pq.ParquetFile(file).read() for file in files], promote_options="permissive")
        except OSError as error:
            raise FeatureStoreError(f"the files in {folder} can't be merged: {error}") from error
        except pa.ArrowException:
            return  # A field has changed its type: readers convert the columns of each file.
        first, last = _range(files[0])[0], max(_range(file)[1] for file in files)
        path = folder / f"{first:020}-{last:020}-{uuid.uuid4().hex[:8]}.parquet"
        _write(path, whole)
        files = [path]
    for file in folder.glob("*.parquet"):
        if file not in files:
            file.unlink(missing_ok=True)


def _range(file: Path) -> tuple[int, int]:
    """First and last number of a file in the order of writing."""
    found = _NAME.fullmatch(file.name)
    return (0, 0) if found is None else (int(found["first"]), int(found["last"] or found["first"]))


def _write(path: Path, table: Any) -> None:
    pa, pq = _pyarrow()
    content = pa.BufferOutputStream()
    pq.write_table(table, content, compression="zstd")
    try:
        durable.make_folder(path.parent)
        durable.replace(path, content.getvalue().to_pybytes())
    except OSError as error:
        raise FeatureStoreError(f"{path} can't be written: {error}") from error


def read(files: Sequence[Path], features: type[Struct]) -> Table:
    """Read all rows of files, in order. A column that an older file lacks is null."""
    pa, _ = _pyarrow()
    whole = _scan(files, [], [(name, _type(pa, kind)) for name, (kind, _) in _columns(features).items()])
    times = whole.column(TIME).cast(pa.int64()).to_numpy()
    return Table(whole.column(KEY).to_pylist(), times, whole, features)


def extent(files: Sequence[Path]) -> tuple[int, datetime, datetime]:
    """The number of rows in files, and their first and last time."""
    times = _scan(files, [], []).column(TIME)
    limits = require("pyarrow.compute", "parquet").min_max(times).as_py()
    return len(times), limits["min"], limits["max"]


def _scan(files: Sequence[Path], required: list[tuple[str, Any]], optional: list[tuple[str, Any]]) -> Any:
    """Read key, time and further columns (name, type) of files. An optional column that a file lacks is null."""
    pa, pq = _pyarrow()
    fixed = [(KEY, pa.string()), (TIME, pa.timestamp("us", "UTC")), *required]
    schema = pa.schema([pa.field(*one, nullable=False) for one in fixed] + [pa.field(*one) for one in optional])
    tables = [schema.empty_table()]
    for file in files:
        try:
            found = pq.ParquetFile(file).read(columns=schema.names)
            columns = [
                pa.nulls(found.num_rows, field.type)
                if field.nullable and field.name not in found.column_names
                else found.column(field.name).cast(field.type)
                for field in schema
            ]
        except (OSError, KeyError, pa.ArrowException) as error:
            raise FeatureStoreError(f"{file} can't be read: {error}") from error
        tables.append(pa.table(columns, schema=schema))
    return pa.concat_tables(tables)


def _columns(features: type[Struct]) -> dict[str, tuple[str, bool]]:
    """The kind of column of each field, and whether null in it stands for an omitted field.

    Null must be unambiguous. A field for which it is not, or whose type has no column type, becomes a "json" column:
    JSON text, null if the field is omitted.
    """
    found: dict[str, tuple[str, bool]] = {}
    for field in msgspec.structs.fields(features):
        kinds = column_kinds(inspect.type_info(field.type))
        takes_null = "null" in kinds
        kinds.discard("null")
        kind = kinds.pop() if len(kinds) == 1 else "json"
        if kind == "json" or (takes_null and field.default not in (None, NODEFAULT)):
            found[field.encode_name] = "json", True
        else:
            found[field.encode_name] = kind, not takes_null
    return found


def _type(pa: Any, kind: str) -> Any:
    return pa.string() if kind == "json" else pa.type_for_alias(kind)


def _pyarrow() -> tuple[Any, Any]:
    return require("pyarrow", "parquet"), require("pyarrow.parquet", "parquet")


def _json(record: dict[str, Any], name: str) -> str | None:
    return msgspec.json.encode(record[name]).decode() if name in record else None


def _convert(record: Any, features: type[F]) -> F:
    try:
        return msgspec.convert(record, features)
    except msgspec.ValidationError as error:
        raise FeatureStoreError(
            f"stored values do not fit {features.__name__}: {error}; give new fields a default, or use a new view"
        ) from error
