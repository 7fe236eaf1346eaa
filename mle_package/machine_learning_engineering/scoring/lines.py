"""Rows of text files, CSV and JSON Lines, line by line; a line that can't be read is a text that says why."""

from collections.abc import Callable, Iterator
from io import BufferedReader
from itertools import islice
from typing import Any

import msgspec
from msgspec import Raw

from machine_learning_engineering.core.column_map import ColumnMap, nested
from machine_learning_engineering.core.csv_row import value_of
from machine_learning_engineering.core.table_file import CsvReader, MalformedLine, check_text, explain_json
from machine_learning_engineering.scoring.inputs import InputFile

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A longer line is no row: the file may be one array."""
HEAD_LINES = 100
"""Lines of a file of JSON objects whose names are its columns."""
_BOM = b"\xef\xbb\xbf"


def csv_rows(stream: BufferedReader, on_malformed: Callable[[int, str], None] | None = None) -> CsvReader:
    return CsvReader(stream) if on_malformed is None else CsvReader(stream, on_malformed=on_malformed)


def with_malformed(rows: Iterator[tuple[int, Any]], bad: list[tuple[int, str]]) -> Iterator[tuple[int, Any]]:
    """Rows and, as text, what is wrong with a line, in the order of lines."""
    for row in rows:
        yield from bad
        bad.clear()
        yield row
    yield from bad


def objects(stream: BufferedReader) -> Iterator[tuple[int, Any]]:
    """Number and members of each line's object; as text, what is wrong with a line."""
    decode = msgspec.json.Decoder(dict[str, Raw]).decode
    lines = iter(lambda: stream.readline(MAX_LINE_BYTES), b"")
    for number, line in enumerate(lines, start=1):
        if len(line) == MAX_LINE_BYTES:
            raise MalformedLine(number, f"it has more than {MAX_LINE_BYTES:,} bytes: write one object per line")
        text = (line.removeprefix(_BOM) if number == 1 else line).strip()
        if not text:
            continue
        try:
            yield number, decode(text)
        except (ValueError, RecursionError) as error:
            yield number, explain_json(text, error)


def names_of_objects(stream: BufferedReader) -> list[str]:
    check_text(stream)
    head = islice(objects(stream), HEAD_LINES)
    return list(dict.fromkeys(name for _, found in head if isinstance(found, dict) for name in found))


def request_of(found: dict[str, Raw], mapped: ColumnMap) -> bytes | dict[str, Any]:
    """The features of an object as they were sent."""
    row: dict[str, Any] = {}
    objects: dict[str, Any] = {}
    for name, (column, steps) in mapped.places.items():
        value: Any = found[column]
        if steps:
            if column not in objects:
                objects[column] = msgspec.json.decode(value)
            value = objects[column]
            for step in steps:
                value = value.get(step, msgspec.UNSET) if isinstance(value, dict) else msgspec.UNSET
        if value is not msgspec.UNSET:
            row[name] = value
    return msgspec.json.encode(nested(row) if mapped.has_members else row)


def cell_value(cell: str, kind: Any) -> Any:
    return None if cell == "" else value_of(cell, kind)


def batches(lines: Iterator[tuple[int, Any]], size: int, start: int) -> Iterator[list[tuple[int, Any]]]:
    remaining = islice(lines, start, None)
    while batch := list(islice(remaining, size)):
        yield batch


def position_in(stream: BufferedReader, file: InputFile) -> float:
    try:
        return min(1.0, stream.raw.tell() / max(1, file.size))
    except OSError:  # A compressed stream knows no position.
        return 0.0
