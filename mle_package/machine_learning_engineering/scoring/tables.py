"""Rows of columnar files, by pyarrow.dataset: never a whole file, and of parquet never a whole row group, in memory."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

from machine_learning_engineering.core.extras import require
from machine_learning_engineering.scoring.inputs import InputFile, file_system


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
    """Record batches from row `start` on. Row groups before it are not read."""
    dataset = require("pyarrow.dataset", "parquet")
    [fragment] = open_dataset(file).get_fragments()
    skip, total = start, fragment.count_rows()
    options: dict[str, Any] = {
        "columns": list(names),
        "batch_size": size,
        # In this thread: if a damaged file stops the reader, its other threads go on, on memory that is freed.
        "use_threads": False,
        "batch_readahead": 1,
        "fragment_readahead": 0,
    }
    if file.format == "parquet":
        # Otherwise whole row groups are in memory.
        options["fragment_scan_options"] = dataset.ParquetFragmentScanOptions(
            use_buffered_stream=True, pre_buffer=False
        )
        groups: list[int] = []
        for group in fragment.row_groups:
            if skip >= group.num_rows and not groups:
                skip -= group.num_rows
            else:
                groups.append(group.id)
        if not groups:
            return
        fragment = fragment.subset(row_group_ids=groups)
    done = start - skip
    for batch in fragment.to_batches(**options):
        done += batch.num_rows
        if skip >= batch.num_rows:
            skip -= batch.num_rows
            continue
        on_progress(done / max(1, total))
        yield batch.slice(skip)
        skip = 0


def values_of(pa: Any, column: Any) -> list[Any]:
    """Python values of a column."""
    kind = column.type
    if pa.types.is_dictionary(kind):
        column = column.cast(kind.value_type)
    elif pa.types.is_timestamp(kind) and kind.unit == "ns":
        # Python's times have microseconds.
        column = column.cast(pa.timestamp("us", kind.tz), safe=False)
    return cast(list[Any], column.to_pylist())
