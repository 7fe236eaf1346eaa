"""Prints results: as JSON, and untrusted bytes and texts in a form that cannot control a terminal."""

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import typer

# Cc: control; Cf: format, such as reversing the direction of text; Cs: surrogates.
_CONTROLLING = ("Cc", "Cf", "Cs")
_NOT_PLAIN = re.compile(r"[^ -~]")
_SHOWN_BYTES = 4 * 1024
_LINE = 16


def render(value: bytes | None, limit: int | None = _SHOWN_BYTES) -> str:
    """`value` as text that cannot control a terminal: control characters are escaped, non-UTF-8 becomes a hex dump.

    Args:
        limit: show at most this many bytes, with a note; None shows all.
    """
    if value is None:
        return "(null)"
    if not value:
        return "(empty)"
    shown = value if limit is None else value[:limit]
    # The limit may split a character.
    rendered = "".join(map(_escaped, shown.decode(errors="ignore"))) if _is_text(value) else _hex_dump(shown)
    return (
        rendered
        if len(shown) == len(value)
        else f"{rendered}\n... {len(value) - len(shown):,} of {len(value):,} bytes omitted"
    )


def render_line(text: str, limit: int = 200) -> str:
    """One line of `text` for a table: control characters escaped, cut at `limit` characters."""
    line = "".join(_escaped(character) if character != "\n" else "\\n" for character in text[: limit + 1])
    return line if len(line) <= limit else line[: limit - 1] + "…"


def print_json(value: Any) -> None:
    """Print a value as one line of JSON in which no foreign character controls a terminal.

    JSON requires escapes for the first 32 characters only, and a sender's own JSON may have line breaks between values.
    """
    import msgspec

    typer.echo(_NOT_PLAIN.sub(_json_escape, msgspec.json.encode(value).decode()))


def print_table(headings: Sequence[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table of foreign texts, whole in any width; nothing without a row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None)
    for heading in headings:
        table.add_column(heading, overflow="fold")
    for cells in rows:
        # As Text: rich would interpret markup.
        table.add_row(*(Text(render_line(cell)) for cell in cells))
    if table.row_count:
        Console().print(table)


def render_text(text: str) -> str:
    """`text` with its line breaks, and with every character escaped that controls a terminal."""
    return "".join(map(_escaped, text))


def render_time(at: datetime, timespec: str = "seconds") -> str:
    """A time in UTC, as the options --since and --until take it: 2026-01-31T12:00:00Z."""
    return at.astimezone(UTC).isoformat(timespec=timespec).replace("+00:00", "Z")


def render_metrics(metrics: Mapping[str, float]) -> str:
    """Names and values of metrics in one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _json_escape(found: re.Match[str]) -> str:
    character = found[0]
    if character in "\n\r\t":
        # Not in a string, where they are escaped already.
        return " "
    return json.dumps(character)[1:-1] if unicodedata.category(character) in _CONTROLLING else character


def _escaped(character: str) -> str:
    if character in "\n\t" or unicodedata.category(character) not in _CONTROLLING:
        return character
    return character.encode("unicode_escape").decode()


def _hex_dump(value: bytes) -> str:
    lines = []
    for start in range(0, len(value), _LINE):
        part = value[start : start + _LINE]
        printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<{3 * _LINE - 1}}  {printable}")
    return "\n".join(lines)
