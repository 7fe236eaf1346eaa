"""Values as people read them, and how wide a text is."""

import re
from datetime import datetime
from typing import Any

from monitoring.dashboards.source import Column

NONE = "-"
_NARROW, _WIDE = frozenset("fijlrtI.,:;'|!()[]{}/\\ -"), frozenset("mwMW@%")
# Characters that XML 1.0 has no place for.
_CONTROL = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff\ud800-\udfff]")


def shown(column: Column, value: Any) -> str:
    """A value in the column's format, such as 12.5 %, $1,234, 1.5 MB, or `-` for none; dates in UTC."""
    if value is None:
        return NONE
    if isinstance(value, list):
        return ", ".join(shown(column, item) for item in value)
    if column.format == "date":
        return moment(value).strftime("%b %d, %H:%M:%S")
    if isinstance(value, bool):
        return str(value).lower()
    if not isinstance(value, int | float):
        return clean(str(value))
    if column.format == "text":
        return str(value)
    return f"{column.prefix}{_number(column, value)}{column.suffix}".replace(f"{column.prefix}-", f"-{column.prefix}")


def _number(column: Column, value: float) -> str:
    if column.format == "percent":
        return f"{value * 100:,.{column.decimals}f}%"
    if column.format == "bytes":
        return _scaled(value, 1024, ("B", "KB", "MB", "GB", "TB"), column.decimals, " ")
    if column.compact:
        return _scaled(value, 1000, ("", "k", "m", "b", "t"), max(1, column.decimals), "")
    return f"{value:,.{column.decimals}f}"


def _scaled(value: float, step: int, units: tuple[str, ...], decimals: int, space: str) -> str:
    number, place = float(value), 0
    while abs(number) >= step and place < len(units) - 1:
        number, place = number / step, place + 1
    return f"{number:,.{decimals if place else 0}f}{space}{units[place]}"


def moment(value: Any) -> datetime:
    """A date of an answer: ISO 8601, in UTC."""
    return datetime.fromisoformat(str(value))


def clean(text: str) -> str:
    """On one line, without what can't stand in XML."""
    return " ".join(_CONTROL.sub("\N{REPLACEMENT CHARACTER}", text).split())


def width(text: str, size: float, *, bold: bool = False) -> float:
    """About how many pixels a text takes, in a font such as Arial of this size."""
    letters = sum(
        0.30 if c in _NARROW else 0.88 if c in _WIDE else 0.68 if c.isupper() else 1.0 if ord(c) > 0x2E80 else 0.545
        for c in text
    )
    return letters * size * (1.07 if bold else 1.0)


def cut(text: str, size: float, room: float, *, bold: bool = False) -> str:
    """The text, or as much of its beginning as there is room for."""
    if width(text, size, bold=bold) <= room:
        return text
    while text and width(text + "…", size, bold=bold) > room:
        text = text[: -max(1, len(text) // 12)] if width(text, size) > 2 * room else text[:-1]
    return text.rstrip() + "…"


def lines(text: str, size: float, room: float, most: int) -> list[str]:
    """The text broken into at most so many lines; the last one is cut where more is left."""
    found: list[str] = []
    current = ""
    words = clean(text).split(" ")
    for position, word in enumerate(words):
        longer = f"{current} {word}".strip()
        if not current or width(longer, size) <= room:
            current = longer
        elif len(found) == most - 1:
            return [*found, cut(f"{current} {' '.join(words[position:])}", size, room)]
        else:
            found.append(current)
            current = word
    return [*found, cut(current, size, room)] if current else found
