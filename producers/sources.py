"""Reads requests from CSV and JSON Lines, from files or standard input."""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import datetime
from math import isfinite
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType

from machine_learning_engineering.events.schemas import ModelName, RequestId, Timestamp

_INTEGER = re.compile(r"[-+]?(0|[1-9][0-9]*)\Z")
_NUMBER = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]+)?\Z")
_LEADING_ZERO = re.compile(r"[-+]?0[0-9]")
_BOOLEANS = {"true": True, "false": False}


class Request(NamedTuple):
    """A request to publish. None values are filled in at publishing."""

    features: Raw | Mapping[str, Any]
    model: str | None = None
    request_id: str | None = None
    requested_at: datetime | None = None


class MalformedLine(ValueError):
    """A line that is not a request. `number` starts at 1."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"line {number}: {message}")
        self.number = number


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


def read_path(path: Path, bad: BadLines, *, text_fields: Sequence[str] = ()) -> Iterator[Request]:
    """The requests of a .csv or .jsonl file.

    Raises:
        OSError: the file cannot be read.
        ValueError: it has another extension.
    """
    if path.suffix not in (".csv", ".jsonl", ".ndjson"):
        raise ValueError(f"{path.name} is neither .csv nor .jsonl: rename it, or pipe it in with `-` and --format")
    with path.open("rb") as stream:
        yield from read_csv(stream, bad, text_fields=text_fields) if path.suffix == ".csv" else read_jsonl(stream, bad)


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
            bad.add(number, f"not a JSON object of features: {error}")
            continue
        yield request


def read_csv(stream: BinaryIO, bad: BadLines, *, text_fields: Sequence[str] = ()) -> Iterator[Request]:
    """One request per row; the header names the features.

    A cell becomes an integer, a float or a boolean if it looks like one, null if it is empty, and a string otherwise.
    Cells of `text_fields` stay strings (ticket numbers, for example). `007` is a string: a number would lose its zeros.

    Raises:
        ValueError: the header is missing, repeats a name, or lacks one of `text_fields`.
    """
    # An invalid byte makes only its line malformed, not the file.
    text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
    try:
        yield from _rows(csv.reader(text, strict=True), bad, text_fields)
    finally:
        # Else it would close the caller's stream.
        text.detach()


def _rows(reader: Any, bad: BadLines, text_fields: Sequence[str]) -> Iterator[Request]:
    names = next(reader, None)
    if not names or len(set(names)) < len(names):
        raise ValueError(
            "the first line of a CSV file must name each feature once" + (f", not {names}" if names else "")
        )
    unknown = set(text_fields) - set(names)
    if unknown:
        raise ValueError(f"no column {', '.join(sorted(unknown))}; the columns are {', '.join(names)}")
    converters = [_text if name in text_fields else _typed for name in names]
    while True:
        number = reader.line_num + 1
        try:
            cells = next(reader, None)
            if cells is None:
                return
            if not cells:
                continue
            if len(cells) != len(names):
                bad.add(number, f"{len(cells)} cells where the header has {len(names)}")
                continue
            "".join(cells).encode()
        except csv.Error as error:
            bad.add(number, f"not CSV: {error}")
            continue
        except UnicodeEncodeError:
            bad.add(number, "not UTF-8")
            continue
        yield Request({name: convert(cell) for name, convert, cell in zip(names, converters, cells, strict=True)})


def _text(cell: str) -> str | None:
    return cell or None


def _typed(cell: str) -> int | float | bool | str | None:
    if not cell:
        return None
    if _NUMBER.match(cell) and not _LEADING_ZERO.match(cell):
        if _INTEGER.match(cell) and len(cell) < 19:
            return int(cell)
        number = float(cell)
        return number if isfinite(number) else cell
    return _BOOLEANS.get(cell.lower(), cell)
