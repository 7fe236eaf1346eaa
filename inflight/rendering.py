"""Prints results: as JSON, and untrusted bytes and texts in a form that cannot control a terminal."""

import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import typer

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
    """Print a value as one line of JSON."""
    import msgspec

    typer.echo(msgspec.json.encode(value).decode())


def print_table(headings: Sequence[str], rows: Iterable[Iterable[str]]) -> None:
    """Print a table of foreign texts; nothing without a row."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(*headings, box=None)
    for cells in rows:
        # As Text: rich would interpret markup.
        table.add_row(*(Text(render_line(cell)) for cell in cells))
    if table.row_count:
        Console().print(table)


def render_metrics(metrics: Mapping[str, float]) -> str:
    """Names and values of metrics in one line."""
    return ", ".join(f"{name} {value:.4g}" for name, value in metrics.items())


def _is_text(value: bytes) -> bool:
    try:
        value.decode()
    except UnicodeDecodeError:
        return False
    return True


def _escaped(character: str) -> str:
    # Cc: control; Cf: format, such as reversing the direction of text; Cs: surrogates.
    if character in "\n\t" or unicodedata.category(character) not in ("Cc", "Cf", "Cs"):
        return character
    return character.encode("unicode_escape").decode()


def _hex_dump(value: bytes) -> str:
    lines = []
    for start in range(0, len(value), _LINE):
        part = value[start : start + _LINE]
        printable = "".join(chr(byte) if 32 <= byte < 127 else "." for byte in part)
        lines.append(f"{start:08x}  {part.hex(' '):<{3 * _LINE - 1}}  {printable}")
    return "\n".join(lines)
