"""Rows of columnar files: never a whole file, and of parquet never a whole row group, in memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from machine_learning_engineering.core.extras import require
from machine_learning_engineering.scoring.inputs import InputFile, file_system

BUFFER_BYTES = 1024 * 1024
"""Of a column of parquet that are read at once."""


def open_dataset(file: InputFile) -> Any:
    dataset = require("pyarrow.dataset", "parquet")
    system, path = file_system(file.path)
    formats = {"arrow": "ipc"}
    return dataset.dataset(path, filesystem=system, format=formats.get(file.format, file.format))


def tables_of(
    file: InputFile, names: Sequence[str], start: int, size: int, on_progress: Callable[[float], None]
) -> Iterator[Any]:
    """Tables of `size` rows from row `start` on; the last one may have fewer."""
    pa = require("pyarrow", "parquet")
    pending: list[Any] = []
    count = 0
    for batch in _record_batches(file, names, start, size, on_progress):
        pending.append(batch)
        count += batch.num_rows
        while count >= size:
            table = pa.Table.from_batches(pending)
            yield table.slice(0, size)
            rest = table.slice(size)
            count = rest.num_rows
            pending = rest.to_batches()
    if count:
        yield pa.Table.from_batches(pending)


def _record_batches(
    file: InputFile, names: Sequence[str], start: int, size: int, on_progress: Callable[[float], None]
) -> Iterator[Any]:
    """Record batches from row `start` on."""
    batches, done, total = (parquet_batches if file.format == "parquet" else _scanned)(file, names, start, size)
    skip = start - done
    for batch in batches:
        done += batch.num_rows
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        on_progress(done / max(1, total))
        yield batch.slice(skip)
        skip = 0


def parquet_batches(file: InputFile, names: Sequence[str], start: int, size: int) -> tuple[Iterator[Any], int, int]:
    """Record batches of a parquet file, the row that they begin at, and the number of rows.

    Row groups before `start` are not read. Others are read page by page: a scan by pyarrow.dataset would have a whole
    row group in memory, which may be the whole file.
    """
    system, path = file_system(file.path)
    parquet = require("pyarrow.parquet", "parquet")
    found = parquet.ParquetFile(system.open_input_file(path), buffer_size=BUFFER_BYTES, pre_buffer=False)
    metadata = found.metadata
    first, groups = 0, list(range(metadata.num_row_groups))
    while groups and first + (rows := metadata.row_group(groups[0]).num_rows) <= start:
        first += rows
        del groups[0]
    columns = list(names) or found.schema_arrow.names[:1]
    # In this thread: if a damaged file stops the reader, its other threads go on, on memory that is freed.
    batches = found.iter_batches(batch_size=size, row_groups=groups, columns=columns, use_threads=False)
    return batches if groups else iter(()), first, metadata.num_rows


def _scanned(file: InputFile, names: Sequence[str], start: int, size: int) -> tuple[Iterator[Any], int, int]:
    """The same of another format, from the first row on."""
    dataset = open_dataset(file)
    options = {"use_threads": False, "batch_readahead": 1, "fragment_readahead": 0}
    return dataset.to_batches(columns=list(names), batch_size=size, **options), 0, dataset.count_rows()


def values_of(pa: Any, column: Any) -> list[Any]:
    """Python values of a column."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    elif pa.types.is_timestamp(kind) and kind.unit == "ns":
        # Python's times have microseconds.
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    return cast(list[Any], column.to_pylist())
