"""Rows of an input file, in chunks of a fixed size that begin at the same rows whenever the file is read."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from machine_learning_engineering.core.column_map import (
    ColumnMap,
    InvalidTable,
    Requests,
    encode_rows,
    map_columns,
    rows_of_columns,
)
from machine_learning_engineering.core.extras import require
from machine_learning_engineering.core.model import Model
from machine_learning_engineering.core.table_file import MalformedLine, check_text
from machine_learning_engineering.scoring.inputs import InputFile, InputRefused, open_input
from machine_learning_engineering.scoring.lines import (
    HEAD_LINES,
    batches,
    cell_value,
    csv_rows,
    names_of_objects,
    objects,
    position_in,
    request_of,
    with_malformed,
)
from machine_learning_engineering.scoring.tables import open_dataset, tables_of, values_of

if TYPE_CHECKING:
    import pyarrow as pa


class Chunk(NamedTuple):
    """Consecutive rows of a file.

    `numbers` are those of the rows, from 1: of its line in a text file. `requests` are the features of each, None where
    the line can't be read, for the reason in `malformed`. `kept` has the carried columns: lists of JSON values, or
    arrays of pyarrow.
    """

    numbers: list[int]
    requests: list[Any]
    malformed: dict[int, str]
    kept: dict[str, Any]


class Layout(NamedTuple):
    """Columns of a file: those of features, and the type of each other one, as pyarrow has it."""

    found: ColumnMap
    types: "dict[str, pa.DataType]"


class ChunkReader:
    """Reads the rows of files.

    Args:
        model_class: Its `Features` name the columns.
        paths: Paths of features by name, where they are not the name.
        rows: Number of rows in a chunk; the last one of a file may have fewer.
    """

    def __init__(self, model_class: type[Model], paths: Mapping[str, str], rows: int) -> None:
        self._features = model_class.Features
        self._types = {field.encode_name: field.type for field in msgspec.structs.fields(model_class.Features)}
        self._name = model_class.name
        self._paths = paths
        self._rows = rows

    def layout(self, file: InputFile) -> Layout:
        """The columns of a file.

        Raises:
            InputRefused: The file can't be read, or has no column for a required feature.
        """
        try:
            if file.format in ("csv", "jsonl"):
                pa = require("pyarrow", "parquet")
                with open_input(file) as stream:
                    names = csv_rows(stream).names if file.format == "csv" else names_of_objects(stream)
                types = dict.fromkeys(names, pa.string())
            else:
                schema = open_dataset(file).schema
                names, types = schema.names, dict(zip(schema.names, schema.types, strict=True))
            found = map_columns(self._features, names, self._paths)
            if names or file.format != "jsonl":  # An empty file of objects has no columns, and no rows either.
                found.require(self._name, "the file")
        except (MalformedLine, InvalidTable, OSError, ValueError, NotImplementedError) as error:
            raise InputRefused(f"{file.path}: {error}") from error
        return Layout(found, types)

    def chunks(
        self, file: InputFile, layout: Layout, kept: Sequence[str], start: int, on_progress: Callable[[float], None]
    ) -> Iterator[Chunk]:
        """Read a file from row `start`, counted from 0, a multiple of the size of a chunk.

        Args:
            file: An input.
            layout: Its columns.
            kept: Names of the columns that are carried through.
            start: Rows before it are skipped.
            on_progress: Called with the part of the file that is read.

        Raises:
            InputRefused: The file can't be read, or is damaged.
        """
        read = {"csv": self._csv_chunks, "jsonl": self._object_chunks}.get(file.format, self._table_chunks)
        try:
            yield from read(file, layout, kept, start, on_progress)
        except (MalformedLine, OSError, ValueError, EOFError) as error:
            raise InputRefused(f"{file.path} can't be read to its end: {error}") from error

    def _csv_chunks(
        self, file: InputFile, layout: Layout, kept: Sequence[str], start: int, on_progress: Callable[[float], None]
    ) -> Iterator[Chunk]:
        with open_input(file) as stream:
            bad: list[tuple[int, str]] = []
            reader = csv_rows(stream, lambda number, problem: bad.append((number, problem)))
            for lines in batches(with_malformed(iter(reader), bad), self._rows, start):
                on_progress(position_in(stream, file))
                good = [cells for _, cells in lines if isinstance(cells, list)]
                columns = {
                    name: [cell_value(cells[index], self._type(layout.found, name)) for cells in good]
                    for index, name in enumerate(reader.names)
                    if name in layout.found.columns
                }
                rows = encode_rows(rows_of_columns(self._features, layout.found, columns, len(good)))
                positions = {name: reader.names.index(name) for name in kept if name in reader.names}
                values = {
                    name: [cells[at] if isinstance(cells, list) else None for _, cells in lines]
                    for name, at in positions.items()
                }
                yield _chunk(lines, rows, values)

    def _type(self, found: ColumnMap, column: str) -> Any:
        """Type of the feature in a column; any if the column holds an object or a part of one."""
        name = next(name for name, place in found.places.items() if place.column == column)
        return self._types.get(name, Any) if not found.places[name].steps else Any

    def _object_chunks(
        self, file: InputFile, layout: Layout, kept: Sequence[str], start: int, on_progress: Callable[[float], None]
    ) -> Iterator[Chunk]:
        maps: dict[tuple[str, ...], ColumnMap] = {}
        with open_input(file) as stream:
            check_text(stream)
            for lines in batches(objects(stream), self._rows, start):
                on_progress(position_in(stream, file))
                requests: Requests = []
                for _, found in lines:
                    if isinstance(found, dict):
                        if (names := tuple(found)) not in maps:
                            if len(maps) > HEAD_LINES:
                                maps.clear()
                            maps[names] = map_columns(self._features, names, self._paths)
                        requests.append(request_of(found, maps[names]))
                values = {
                    name: [found.get(name) if isinstance(found, dict) else None for _, found in lines] for name in kept
                }
                yield _chunk(lines, requests, values)

    def _table_chunks(
        self, file: InputFile, layout: Layout, kept: Sequence[str], start: int, on_progress: Callable[[float], None]
    ) -> Iterator[Chunk]:
        pa = require("pyarrow", "parquet")
        names = list(dict.fromkeys([*layout.found.columns, *(name for name in kept if name in layout.types)]))
        number = start
        for table in tables_of(file, names, start, self._rows, on_progress):
            columns = {name: values_of(pa, table[name]) for name in layout.found.columns}
            rows = encode_rows(rows_of_columns(self._features, layout.found, columns, table.num_rows))
            numbers = list(range(number + 1, number + table.num_rows + 1))
            yield Chunk(numbers, list(rows), {}, {name: table[name] for name in kept if name in layout.types})
            number += table.num_rows


def _chunk(lines: Sequence[tuple[int, Any]], requests: Sequence[Any], kept: dict[str, Any]) -> Chunk:
    """A chunk of lines, of which those that are texts are malformed."""
    following = iter(requests)
    return Chunk(
        [number for number, _ in lines],
        [None if isinstance(found, str) else next(following) for _, found in lines],
        {index: found for index, (_, found) in enumerate(lines) if isinstance(found, str)},
        kept,
    )
