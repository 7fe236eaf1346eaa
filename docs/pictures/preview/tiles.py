"""Panels that are no charts, as SVG: numbers, tables, documents and text."""

import re
from collections.abc import Sequence
from typing import Any, NamedTuple
from xml.sax.saxutils import escape, quoteattr

import msgspec

from docs.pictures.preview.style import FONT, GREY, INK, LINE, by_threshold, color
from docs.pictures.preview.text import cut, lines, shown, width
from monitoring.dashboards.queries import QueryResult
from monitoring.dashboards.source import COLORS, Column, Markdown, Metric, Search, Table

ROW, CELL = 22, 11
"""Height of a table's row, and its font size."""
_STYLES = {
    "plain": f'font-family={quoteattr(FONT)} fill="{INK}"',
    "bold": f'font-family={quoteattr(FONT)} fill="{INK}" font-weight="bold"',
    # In color alone: vl-convert brings no font of equally wide letters along.
    "code": f'font-family={quoteattr(FONT)} fill="#7A3E9D"',
    "link": f'font-family={quoteattr(FONT)} fill="{COLORS["main"]}"',
}
_RUN = re.compile(r"\*\*(?P<bold>[^*]+)\*\*|`(?P<code>[^`]+)`|\[(?P<link>[^]]+)\]\([^)]+\)|(?P<plain>[^*`[]+|[*`[])")


def text(
    content: str,
    x: float,
    y: float,
    size: float,
    *,
    fill: str = INK,
    bold: bool = False,
    anchor: str = "start",
    font: str = FONT,
) -> str:
    """One line of text; `y` is its baseline."""
    weight = ' font-weight="bold"' if bold else ""
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" font-family={quoteattr(font)} font-size="{size}" fill="{fill}"{weight} '
        f'text-anchor="{anchor}">{escape(content)}</text>'
    )


def metric(panel: Metric, answer: QueryResult, room_x: float, room_y: float) -> str:
    """One large number; its color is a stripe below it."""
    value = answer.rows[0][answer.names.index(panel.value.column)]
    number = shown(panel.value, value)
    shade = by_threshold(panel.value.thresholds, value) or (color(panel.value.color) if panel.value.color else "")
    label = panel.subtitle or panel.value.title
    unit = width(label, 12) + 10
    size = min(38.0, room_y * 0.62)
    while size > 16 and width(number, size, bold=True) + unit > room_x - 4:
        size -= 1
    # As high above the ground in all tiles, however long their descriptions are.
    baseline = max(size * 0.8, room_y - 26)
    rest = room_x - width(number, size, bold=True) - 10
    found = text(number, 2, baseline, size, fill=shade or INK, bold=True)
    found += text(cut(label, 12, rest), 9 + width(number, size, bold=True), baseline, 12, fill=GREY)
    if shade:
        found += f'<rect x="2" y="{room_y - 5:.1f}" width="{room_x - 4:.1f}" height="4" rx="2" fill="{shade}"/>'
    return found


def message(reason: str, room_x: float, room_y: float) -> str:
    """Why there is nothing to see."""
    broken = lines(reason, 11, room_x, max(1, int(room_y // 15) - 1))
    return "".join(text(line, 0, 14 + 15 * at, 11, fill=COLORS["bad"]) for at, line in enumerate(broken))


class _Field(NamedTuple):
    title: str
    texts: list[str]
    colors: list[str | None]
    right: bool


def table(panel: Table, answer: QueryResult, room_x: float, room_y: float) -> str:
    """The first rows of the answer, as many as there is room for."""
    fields = []
    for column in panel.show:
        place = answer.names.index(column.column)
        values = [row[place] for row in answer.rows[: panel.rows_per_page]]
        fields.append(
            _Field(
                column.title,
                [shown(column, value) for value in values],
                [by_threshold(column.thresholds, value) for value in values],
                column.format not in ("text", "date"),
            )
        )
    return _grid(fields, len(answer.rows), room_x, room_y)


def documents(panel: Search, found: Sequence[dict[str, Any]], total: int, room_x: float, room_y: float) -> str:
    """Documents as rows: when, and the fields; objects as JSON."""
    rows = found[: int(room_y // ROW)]
    time = Column(column="@timestamp", format="date")
    fields = [_Field("@timestamp", [shown(time, _at(one, "@timestamp")) for one in rows], [None] * len(rows), False)]
    for name in panel.fields:
        values = [_at(one, name) for one in rows]
        column = Column(column=name, format="number", decimals=4)
        texts = [
            msgspec.json.encode(value).decode() if isinstance(value, dict | list) else _plain(column, value)
            for value in values
        ]
        fields.append(_Field(name.removeprefix("inflight."), texts, [None] * len(rows), False))
    return _grid(fields, total, room_x, room_y)


def _plain(column: Column, value: Any) -> str:
    return shown(column, value) if isinstance(value, float) else shown(Column(column=column.column), value)


def _at(document: Any, name: str) -> Any:
    """The value at a path of keys, which may themselves hold points; None where there is none."""
    if not isinstance(document, dict):
        return None
    if name in document:
        return document[name]
    head, _, rest = name.partition(".")
    return _at(document.get(head), rest) if rest else None


def _grid(fields: list[_Field], total: int, room_x: float, room_y: float) -> str:
    count = min(len(fields[0].texts), int((room_y - ROW) // ROW))
    if count < total:
        count = min(count, int((room_y - ROW - 16) // ROW))
    widths = _widths(fields, count, room_x)
    found: list[str] = []
    x = 0.0
    for field, wide in zip(fields, widths, strict=True):
        inner = wide - 12
        anchor, edge = ("end", x + wide - 6) if field.right else ("start", x + 6)
        found.append(text(cut(field.title, CELL, inner, bold=True), edge, 14, CELL, bold=True, anchor=anchor))
        for row in range(count):
            value = cut(field.texts[row], CELL, inner)
            shade = field.colors[row]
            baseline = ROW * (row + 1) + 15
            found.append(text(value, edge, baseline, CELL, fill=shade or INK, bold=shade is not None, anchor=anchor))
        x += wide
    for row in range(count + 1):
        y = ROW * (row + 1) - 0.5
        found.append(f'<line x1="0" y1="{y}" x2="{room_x:.1f}" y2="{y}" stroke="{LINE}" stroke-width="0.7"/>')
    if count < total:
        found.append(text(f"{count} of {total:,} rows", 6, ROW * (count + 1) + 14, 10, fill=GREY))
    return "".join(found)


def _widths(fields: list[_Field], count: int, room: float) -> list[float]:
    """Every column as wide as it needs; where that is too much, the widest ones give way."""
    needed = [
        max([width(one.title, CELL, bold=True), *(width(value, CELL) * 1.04 for value in one.texts[:count])]) + 14
        for one in fields
    ]
    if (spare := room - sum(needed)) >= 0:
        # Numbers stay beside one another; what is over goes to all of them alike.
        return [wide + spare / len(needed) for wide in needed]
    limit = max(needed)
    while sum(min(wide, limit) for wide in needed) > room and limit > 24:
        limit *= 0.97
    return [min(wide, limit) for wide in needed]


def markdown(panel: Markdown, room_x: float, room_y: float) -> str:
    """Paragraphs with **bold**, `code` and [links](of which the text is drawn)."""
    size, step, y = 12.5, 18, 14.0
    found: list[str] = []
    for paragraph in panel.text.strip().split("\n\n"):
        for line in _broken(paragraph, size, room_x):
            if y > room_y:
                return "".join(found)
            # The words of a line are one text, so that the renderer, which knows the font, sets their distances.
            spans = "".join(f"<tspan {_STYLES[kind]}>{escape(word)}</tspan>" for word, kind in line)
            found.append(f'<text x="0" y="{y}" font-size="{size}" xml:space="preserve">{spans}</text>')
            y += step
        y += 8
    return "".join(found)


def _broken(paragraph: str, size: float, room: float) -> list[list[tuple[str, str]]]:
    """The lines of a paragraph: words, each with its space before it and its kind."""
    broken: list[list[tuple[str, str]]] = [[]]
    x = 0.0
    for run in _RUN.finditer(" ".join(paragraph.split())):
        kind = run.lastgroup or "plain"
        for word in [run[kind]] if kind == "code" else re.findall(r" ?[^ ]+| $", run[kind]):
            wide = width(word, size, bold=kind == "bold")
            if x and x + wide > room and not re.match(r"[.,;:)]", word):
                broken.append([])
                x, word = 0.0, word.lstrip()
            broken[-1].append((word, kind))
            x += wide
    return broken
