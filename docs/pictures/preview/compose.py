"""A board as one SVG: panels on the grid, each with its title and description."""

import xml.etree.ElementTree as ElementTree
from collections.abc import Mapping
from datetime import datetime
from typing import NamedTuple

from docs.pictures.preview.style import GREY, GROUND, LINE, PAPER
from docs.pictures.preview.text import clean, cut, lines
from docs.pictures.preview.tiles import text
from monitoring.dashboards.source import COLUMNS, Dashboard, Panel

SVG = "http://www.w3.org/2000/svg"
NOTE = "preview - drawn from the same source and real query results; Kibana looks different"
STEP_X, STEP_Y, GAP = 27, 28, 8
"""Distance of two columns and of two rows in pixels, and what is free between panels."""
MARGIN, HEAD = 14, 78
_INSIDE = 12
_TITLE, _SMALL = 13, 10.5


class Room(NamedTuple):
    """What is left of a panel for its content: where it begins in the panel, and its size, in pixels."""

    x: float
    y: float
    width: float
    height: float


def size(dashboard: Dashboard) -> tuple[int, int]:
    """Width and height of a board in pixels."""
    rows = max(panel.at[1] + panel.size[1] for panel in dashboard.panels)
    return 2 * MARGIN + COLUMNS * STEP_X - GAP, HEAD + MARGIN + rows * STEP_Y - GAP


def _frame(panel: Panel) -> tuple[int, int]:
    return panel.size[0] * STEP_X - GAP, panel.size[1] * STEP_Y - GAP


def _head(panel: Panel) -> tuple[list[str], list[str]]:
    """The lines of the title, and those of the description."""
    wide, high = _frame(panel)
    room = wide - 2 * _INSIDE
    title = lines(panel.title, _TITLE * 1.07, room, 1) if panel.title else []
    return title, lines(panel.description, _SMALL, room, 2 if high > 120 else 1) if panel.description else []


def room(panel: Panel) -> Room:
    """Where the content of a panel goes."""
    wide, high = _frame(panel)
    title, description = _head(panel)
    top = 10 + 17 * len(title) + 13 * len(description) + (6 if title else 0)
    return Room(_INSIDE, top, wide - 2 * _INSIDE, high - top - 8)


def compose(dashboard: Dashboard, contents: Mapping[str, str], start: datetime, end: datetime) -> str:
    """The SVG of a board.

    Args:
        contents: SVG of each panel by its id, drawn into its `room`; a panel without any is "no results".
    """
    wide, high = size(dashboard)
    span = f"{start:%Y-%m-%d %H:%M:%S} to {end:{'' if start.date() == end.date() else '%Y-%m-%d '}%H:%M:%S} UTC"
    parts = [
        f'<svg xmlns="{SVG}" width="{wide}" height="{high}" viewBox="0 0 {wide} {high}">',
        f'<rect width="{wide}" height="{high}" fill="{GROUND}"/>',
        text(clean(dashboard.title), MARGIN + 2, 32, 20, bold=True),
        text(cut(clean(dashboard.description), 12, wide - 2 * MARGIN), MARGIN + 2, 52, 12, fill=GREY),
        text(span, wide - MARGIN - 2, 30, 12, anchor="end"),
        text(NOTE, MARGIN + 2, 69, 11, fill="#B4571B", bold=True),
    ]
    for panel in dashboard.panels:
        x, y = MARGIN + panel.at[0] * STEP_X, HEAD + panel.at[1] * STEP_Y
        parts.append(f'<svg x="{x}" y="{y}" width="{_frame(panel)[0]}" height="{_frame(panel)[1]}">')
        parts += [_decorated(panel), _content(panel, contents.get(panel.id)), "</svg>"]
    return "".join([*parts, "</svg>"])


def _decorated(panel: Panel) -> str:
    wide, high = _frame(panel)
    title, description = _head(panel)
    shape = f'x="0.5" y="0.5" width="{wide - 1}" height="{high - 1}" rx="5"'
    found = [f'<rect {shape} fill="{PAPER}" stroke="{LINE}"/>']
    found += [text(line, _INSIDE, 24 + 17 * at, _TITLE, bold=True) for at, line in enumerate(title)]
    top = 21 + 17 * len(title)
    found += [text(line, _INSIDE, top + 13 * at, _SMALL, fill=GREY) for at, line in enumerate(description)]
    return "".join(found)


def _content(panel: Panel, content: str | None) -> str:
    place = room(panel)
    if content is None:
        return text(
            "no results", place.x + place.width / 2, place.y + place.height / 2 + 5, 14, fill=GREY, anchor="middle"
        )
    box = f'x="{place.x}" y="{place.y}" width="{place.width}" height="{place.height}"'
    return f"<svg {box}>{content}</svg>"


def nested(svg: str, prefix: str) -> str:
    """A whole SVG document as part of another: its ids made unique by `prefix`."""
    root = ElementTree.fromstring(svg)  # noqa: S314 - made by vl-convert a moment ago
    for element in root.iter():
        for name, value in element.attrib.items():
            if name == "id":
                element.set(name, prefix + value)
            elif value.startswith("url(#"):
                element.set(name, value.replace("url(#", f"url(#{prefix}", 1))
    ElementTree.register_namespace("", SVG)
    return ElementTree.tostring(root, encoding="unicode")
