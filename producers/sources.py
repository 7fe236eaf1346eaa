"""Reads requests from CSV and JSON Lines, from files or standard input."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, inspect

from machine_learning_engineering.core.csv_row import number_of_cell, value_of
from machine_learning_engineering.core.table_file import (
    CsvReader,
    MalformedLine,
    check_text,
    explain_json,
    is_csv,
    is_jsonl,
)
from machine_learning_engineering.core.types import json_kinds
from machine_learning_engineering.events.schemas import ModelName, RequestId, Timestamp

_BOOLEANS = {"true": True, "false": False}


class Request(NamedTuple):
    """A request to publish. None values are filled in at publishing."""

    features: Raw | Mapping[str, Any]
    model: str | None = None
    request_id: str | None = None
    requested_at: datetime | None = None


class BadLines:
    """Counts and reports malformed lines; raises on the first one if `strict`."""

    def __init__(self, report: Callable[[MalformedLine], None] | None = None, *, strict: bool = False) -> None:
        self.count = 0
        self._report = report
        self._strict = strict

    def add(self, number: int, message: str) -> None:
        """Report line `number`.

        Raises:
            MalformedLine: `strict` is set.
        """
        line = MalformedLine(number, message)
        if self._strict:
            raise line
        self.count += 1
        if self._report is not None:
            self._report(line)


class _Envelope(Struct, forbid_unknown_fields=True):
    """A line that is a whole request, not just features."""

    features: Raw
    type: str | UnsetType = UNSET
    model: ModelName | UnsetType = UNSET
    request_id: RequestId | UnsetType = UNSET
    requested_at: Timestamp | UnsetType = UNSET


_ENVELOPE_FIELDS = frozenset(_Envelope.__struct_fields__)
_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_ENVELOPE = msgspec.json.Decoder(_Envelope)


def read_path(
    path: Path, bad: BadLines, *, text_fields: Sequence[str] = (), features: type[Struct] | None = None
) -> Iterator[Request]:
    """The requests of a .csv or .jsonl file; see `read_stream`.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has another extension, or see `read_stream`. The message names the file.
    """
    if not (is_csv(path) or is_jsonl(path)):
        raise ValueError(f"{path.name} is neither .csv nor .jsonl: rename it, or pipe it in with `-` and --format")
    with path.open("rb") as stream:
        yield from read_stream(
            stream, str(path), "csv" if is_csv(path) else "jsonl", bad, text_fields=text_fields, features=features
        )


def read_stream(
    stream: BinaryIO,
    name: str,
    format_: str,
    bad: BadLines,
    *,
    text_fields: Sequence[str] = (),
    features: type[Struct] | None = None,
) -> Iterator[Request]:
    """The requests of a stream of the format "csv" or "jsonl".

    Args:
        name: what to call the stream in errors.
        text_fields: CSV columns that stay strings.
        features: the `Features` of the model of all CSV rows, if it is known: its fields decide the types of cells.

    Raises:
        ValueError: nothing of the stream can be used: another encoding or format, a malformed header, or one
            without any feature of the model. The message has the name, the line and the likely cause.
    """
    try:
        if format_ == "csv":
            yield from read_csv(stream, bad, text_fields=text_fields, features=features)
        else:
            check_text(stream)
            yield from read_jsonl(stream, bad)
    except MalformedLine as error:
        raise ValueError(f"{name} {error}") from error


def read_jsonl(lines: Iterable[bytes], bad: BadLines) -> Iterator[Request]:
    """One request per line: an object of features, or a whole request.

    A line is a whole request if it has `features` and no other keys than `type`, `request_id`, `model` and
    `requested_at`. Empty lines are skipped.
    """
    for number, line in enumerate(lines, start=1):
        content = line.strip()
        if number == 1:
            content = content.removeprefix(b"\xef\xbb\xbf")
        if not content:
            continue
        try:
            found = _OBJECT.decode(content)
            if "features" in found and found.keys() <= _ENVELOPE_FIELDS:
                whole = _ENVELOPE.decode(content)
                request = Request(
                    whole.features, whole.model or None, whole.request_id or None, whole.requested_at or None
                )
            else:
                request = Request(Raw(content))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            bad.add(number, f"not a JSON object of features: {explain_json(content, error)}")
            continue
        yield request


def read_csv(
    stream: BinaryIO, bad: BadLines, *, text_fields: Sequence[str] = (), features: type[Struct] | None = None
) -> Iterator[Request]:
    """One request per row; the header names the features.

    A cell becomes what its field accepts. Without `features` it becomes an integer, a float or a boolean if it looks
    like one, null if it is empty, and a string otherwise. Cells of `text_fields` stay strings (ticket numbers, for
    example). `007` is a string: a number would lose its zeros.

    Raises:
        ValueError: the header is missing, repeats a name, lacks one of `text_fields`, or has no feature of the model.
    """
    reader = CsvReader(stream, on_malformed=bad.add, what="feature")
    names = reader.names
    if not names:
        raise ValueError("the first line of a CSV file must name each feature once")
    if "" in names:
        raise MalformedLine(1, "a column has no name, such as the index that pandas writes: to_csv(index=False)")
    if unknown := set(text_fields) - set(names):
        raise ValueError(f"no column {', '.join(sorted(unknown))}; the columns are {', '.join(names)}")
    types = {} if features is None else {field.encode_name: field.type for field in msgspec.structs.fields(features)}
    if types and types.keys().isdisjoint(names):
        raise MalformedLine(1, _no_feature(names, list(types)))
    convert = [_text if name in text_fields else _converter(types.get(name)) for name in names]
    for _, cells in reader:
        row = {name: one(cell) for name, one, cell in zip(names, convert, cells, strict=True)}
        yield Request({name: value for name, value in row.items() if value is not UNSET})


def _no_feature(names: list[str], wanted: list[str]) -> str:
    message = f"none of the columns {', '.join(names)[:500]} is a feature of the model, which takes {', '.join(wanted)}"
    if {name.lower() for name in wanted} & {name.lower() for name in names}:
        message += ": write the names in the model's upper and lower case"
    elif any(number_of_cell(name) is not None for name in names):
        message += ": the first line seems to be data, add a header"
    return message


def _converter(field_type: Any) -> Callable[[str], Any]:
    if field_type is None:
        return _typed
    empty = None if json_kinds(inspect.type_info(field_type)) & {"null", "any"} else UNSET
    return lambda cell: value_of(cell, field_type) if cell else empty


def _text(cell: str) -> str | None:
    return cell or None


def _typed(cell: str) -> int | float | bool | str | None:
    if not cell:
        return None
    if (number := number_of_cell(cell)) is not None:
        return number
    return _BOOLEANS.get(cell.lower(), cell)
