"""Files of scored rows: parts of one output, in parquet, JSON Lines or CSV."""

import csv
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Protocol

import msgspec

from machine_learning_engineering.core.extras import require
from machine_learning_engineering.prediction_log.rows import ScoredRow
from machine_learning_engineering.scoring import columns as output
from machine_learning_engineering.scoring.chunks import Chunk
from machine_learning_engineering.scoring.journal import OutputFormat

if TYPE_CHECKING:
    import pyarrow as pa

_encode = msgspec.json.Encoder(enc_hook=str).encode


class PartWriter(Protocol):
    """Writes one part. Nobody reads its file before it is renamed."""

    def write(self, file: str, chunk: Chunk, scored: Sequence[tuple[int, ScoredRow]]) -> None:
        """Append the scored rows of a chunk, each with its index in the chunk."""

    def __enter__(self) -> "PartWriter": ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


def open_part(path: Path, format: OutputFormat, schema: "pa.Schema", version: str) -> PartWriter:
    """A writer of one part.

    Args:
        path: The file.
        format: Its format.
        schema: Columns, see `columns.output_schema`.
        version: Version of the model.
    """
    writers: dict[str, type[_ParquetWriter | _CsvWriter | _JsonWriter]]
    writers = {"parquet": _ParquetWriter, "csv": _CsvWriter, "jsonl": _JsonWriter}
    return writers[format](path, schema, version)


class _Writer:
    def __init__(self, path: Path, schema: "pa.Schema", version: str) -> None:
        self._path = path
        self._schema = schema
        self._version = version

    def _table(self, file: str, chunk: Chunk, scored: Sequence[tuple[int, ScoredRow]]) -> "pa.Table":
        pa = require("pyarrow", "parquet")
        chosen = [index for index, _ in scored]
        fixed = {
            output.FILE: [file] * len(chosen),
            output.ROW: [chunk.numbers[index] for index in chosen],
            output.VERSION: [self._version] * len(chosen),
        }
        predictions = output.prediction_arrays(self._schema, [row.prediction for _, row in scored])
        arrays = []
        for field in self._schema:
            if field.name in fixed:
                arrays.append(pa.array(fixed[field.name], field.type))
            elif field.name in predictions:
                arrays.append(predictions[field.name])
            elif field.name in chunk.kept:
                arrays.append(output.kept_array(chunk.kept[field.name], field.type, chosen))
            else:  # Another input has this column.
                arrays.append(pa.nulls(len(chosen), field.type))
        return pa.Table.from_arrays(arrays, schema=self._schema)


class _ParquetWriter(_Writer):
    def __enter__(self) -> "_ParquetWriter":
        self._writer = require("pyarrow.parquet", "parquet").ParquetWriter(self._path, self._schema)
        return self

    def __exit__(self, *raised: object) -> None:
        self._writer.close()

    def write(self, file: str, chunk: Chunk, scored: Sequence[tuple[int, ScoredRow]]) -> None:
        self._writer.write_table(self._table(file, chunk, scored))


class _CsvWriter(_Writer):
    """An empty cell is a missing value; a list or object is JSON text."""

    def __enter__(self) -> "_CsvWriter":
        self._file = self._path.open("w", encoding="utf-8", newline="")
        self._writer = csv.writer(self._file, lineterminator="\n")
        self._writer.writerow(self._schema.names)
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def write(self, file: str, chunk: Chunk, scored: Sequence[tuple[int, ScoredRow]]) -> None:
        columns = [column.to_pylist() for column in self._table(file, chunk, scored).columns]
        for row in zip(*columns, strict=True):
            self._writer.writerow([_cell(value) for value in row])


class _JsonWriter(_Writer):
    """One object a line, with the prediction as the stream encodes it."""

    def __enter__(self) -> "_JsonWriter":
        self._file = self._path.open("wb")
        return self

    def __exit__(self, *raised: object) -> None:
        self._file.close()

    def write(self, file: str, chunk: Chunk, scored: Sequence[tuple[int, ScoredRow]]) -> None:
        chosen = [index for index, _ in scored]
        names = [name for name in self._schema.names if name in chunk.kept]
        kept = [output.plain_values(chunk.kept[name], chosen) for name in names]
        rows = zip(*kept, strict=True) if kept else ((),) * len(chosen)
        lines = []
        for (index, row), values in zip(scored, rows, strict=True):
            fixed = {output.FILE: file, output.ROW: chunk.numbers[index], output.VERSION: self._version}
            carried = dict(zip(names, values, strict=True))
            lines.append(_encode(fixed | carried | {"prediction": row.encoded}) + b"\n")
        self._file.write(b"".join(lines))


def refused_line(file: str, chunk: Chunk, index: int, kind: str, message: str) -> bytes:
    """A line of the file of refused rows: position, reason, and the carried columns."""
    kept = {name: output.plain_values(values, [index])[0] for name, values in chunk.kept.items()}
    position = {output.FILE: file, output.ROW: chunk.numbers[index]}
    return _encode(position | {"error": {"type": kind, "message": message}, "kept": kept}) + b"\n"


def _cell(value: Any) -> str | int | float | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, int | float) else output.json_text(value)
