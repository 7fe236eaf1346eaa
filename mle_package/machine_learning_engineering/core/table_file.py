"""Reader of CSV and JSON Lines files that other people wrote.

Training, replay, labels, retraining and the feature store read such files with it, so that all of them accept the same
files and refuse the others in the same words: with the line and the likely cause.
"""

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, NoReturn

import msgspec

CSV_ENDINGS = (".csv",)
JSONL_ENDINGS = (".jsonl", ".ndjson")
_BOM = b"\xef\xbb\xbf"
_START_BYTES = 1_024
_NOT_UTF8 = "not UTF-8, but probably Latin-1 or Windows-1252: save the file as UTF-8 (iconv -f WINDOWS-1252 -t UTF-8)"
_OTHER_FORMATS = {
    b"\x1f\x8b": "a gzip file: unpack it first",
    b"PK\x03\x04": "a zip file, such as an Excel workbook: unpack it, or export it as CSV",
    b"\x28\xb5\x2f\xfd": "a Zstandard file: unpack it first",
    b"PAR1": "a parquet file: rename it to .parquet",
    b"\xd0\xcf\x11\xe0": "an old Excel workbook: export it as CSV",
}
_QUOTES = ": a quotation mark is not closed, or not doubled within a quoted cell"
_SEPARATORS = {";": "a semicolon", "\t": "a tab", "|": "a vertical bar"}


class MalformedLine(ValueError):
    """A line that can't be read. `number` starts at 1."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"line {number}: {message}")
        self.number = number


OnMalformed = Callable[[int, str], None]
"""Called with the number of a line that can't be read, and why."""


def raise_malformed(number: int, message: str) -> NoReturn:
    """Raise `MalformedLine`: the default of readers, which stop at the first such line."""
    raise MalformedLine(number, message)


def is_csv(path: Path) -> bool:
    """Tell a CSV file by its ending, in lower or upper case."""
    return path.suffix.lower() in CSV_ENDINGS


def is_jsonl(path: Path) -> bool:
    """Tell a JSON Lines file by its ending, in lower or upper case."""
    return path.suffix.lower() in JSONL_ENDINGS


def check_text(stream: BinaryIO) -> None:
    """Check that a stream begins like UTF-8 text. Nothing is consumed.

    Raises:
        MalformedLine: It is UTF-16, UTF-32 or a known binary format. The message says how to convert it.
    """
    if hasattr(stream, "peek"):
        start = stream.peek(_START_BYTES)[:_START_BYTES]
    elif stream.seekable():
        position = stream.tell()
        start = stream.read(_START_BYTES)
        stream.seek(position)
    else:
        return
    for magic, what in _OTHER_FORMATS.items():
        if start.startswith(magic):
            raise MalformedLine(1, f"this is {what}")
    for marks, encoding in (((b"\xff\xfe\0\0", b"\0\0\xfe\xff"), "UTF-32"), ((b"\xff\xfe", b"\xfe\xff"), "UTF-16")):
        if start.startswith(marks):
            raise MalformedLine(1, f"not UTF-8, but {encoding}: save the file as UTF-8 (iconv -f {encoding} -t UTF-8)")
    if b"\0" in start[:4]:
        raise MalformedLine(1, "not UTF-8, but probably UTF-16: save the file as UTF-8 (iconv -f UTF-16LE -t UTF-8)")


class CsvReader:
    """Rows of a CSV file in UTF-8, with or without a byte order mark, that are separated by commas.

    Args:
        stream: The file, opened for bytes. It is not closed.
        on_malformed: Called for each row that can't be read; the others are yielded. By default, the first one raises.
        what: What a column is, for messages.

    Raises:
        MalformedLine: The header can't be read: another separator, encoding or format, or a repeated name.
    """

    def __init__(self, stream: BinaryIO, *, on_malformed: OnMalformed = raise_malformed, what: str = "column") -> None:
        check_text(stream)
        # An invalid byte makes only its line malformed, not the file.
        self._text = io.TextIOWrapper(stream, encoding="utf-8-sig", errors="surrogateescape", newline="")
        self._reader = csv.reader(self._text, strict=True)
        self._on_malformed = on_malformed
        try:
            self.names: list[str] = next(self._reader, [])
        except csv.Error as error:
            self._text.detach()
            raise MalformedLine(1, f"{error}{_QUOTES}") from error
        try:
            _check_header(self.names, what)
        except BaseException:
            self._text.detach()
            raise

    def __iter__(self) -> Iterator[tuple[int, list[str]]]:
        """Yield the number of its first line and the cells of each row, one for each name. Empty lines are skipped."""
        try:
            while True:
                number = self._reader.line_num + 1
                try:
                    cells = next(self._reader, None)
                except csv.Error as error:
                    self._on_malformed(number, f"{error}{_QUOTES}")
                    continue
                if cells is None:
                    return
                if cells and (problem := self._problem(cells)) is None:
                    yield number, cells
                elif cells:
                    self._on_malformed(number, problem or "")
        finally:
            # Else it would close the caller's stream, unless the caller has closed it.
            with suppress(ValueError):
                self._text.detach()

    def rows(self) -> Iterator[tuple[int, dict[str, str]]]:
        """Yield the number of its first line and the cells by column of each row."""
        return ((number, dict(zip(self.names, cells, strict=True))) for number, cells in self)

    def _problem(self, cells: list[str]) -> str | None:
        if any('"' in cell and cell.lstrip().startswith('"') and cell[0].isspace() for cell in cells):
            return "a space before a quotation mark: remove the spaces after commas"
        if len(cells) != len(self.names):
            return f"it does not have {len(self.names)} cells like the header, but {len(cells)}"
        if len(cells) > 2 and all(cell.startswith(" ") for cell in cells[1:]):
            return "a space after each comma: remove the spaces after commas"
        return None if _is_text("".join(cells)) else _NOT_UTF8


def _check_header(names: list[str], what: str) -> None:
    line = ",".join(names)
    if not _is_text(line):
        raise MalformedLine(1, _NOT_UTF8)
    for separator, name in _SEPARATORS.items():
        if line.count(separator) > line.count(","):
            raise MalformedLine(1, f"the columns are separated by {name}, not by commas: export the file with commas")
    if spaced := [name for name in names if name != name.strip()]:
        raise MalformedLine(1, f"a space around the name {spaced[0]!r}: remove the spaces after commas")
    if repeated := [name for name, count in Counter(names).items() if count > 1]:
        raise MalformedLine(1, f"the first line must name each {what} once, not {', '.join(map(repr, repeated))} twice")


def _is_text(text: str) -> bool:
    if "\0" in text:
        return False
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def json_objects(stream: BinaryIO) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the number and the object of each line of a JSON Lines file. Empty lines are skipped.

    Raises:
        MalformedLine: A line is not an object, or names a field twice; or the file has another encoding or format.
    """
    check_text(stream)
    for number, line in enumerate(stream, start=1):
        text = (line.removeprefix(_BOM) if number == 1 else line).strip()
        if not text:
            continue
        try:
            found = msgspec.json.decode(text, type=dict[str, Any])
            # The decoder keeps the last of two fields with one name.
            json.loads(text, object_pairs_hook=_refuse_repeated)
        except (ValueError, RecursionError) as error:
            raise MalformedLine(number, explain_json(text, error)) from error
        yield number, found


def explain_json(line: bytes, error: Exception) -> str:
    """Explain why a line is not a JSON object, with the likely cause where the line shows one."""
    # By the line: what a decoder raises for it depends on msgspec's version.
    try:
        line.decode()
    except UnicodeDecodeError:
        return _NOT_UTF8
    if line.startswith(b"["):
        return f"{error}; the file seems to be one JSON array: write one object per line (jq -c '.[]')"
    if line in (b"{", b"}"):
        return f"{error}; an object seems to span several lines: write one object per line (jq -c .)"
    return str(error)


def _refuse_repeated(pairs: list[tuple[str, Any]]) -> None:
    names = [name for name, _ in pairs]
    if len(set(names)) < len(names):
        [(name, _)] = Counter(names).most_common(1)
        raise ValueError(f"the field {name!r} is there twice")
