"""The source of a dashboard: one TOML file, as frozen Structs.

A file has the fields of `Dashboard` at the top level and one `[[panel]]` per panel, whose `chart` selects one of the
panel Structs below. A column is a name, or a table with label, format and color. The default format is `number`; for an
`x` it is `date` if it is a BUCKET of @timestamp and otherwise `text`, as for breakdown, slices and a heatmap's `y`.
"""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

COLUMNS = 48
"""The width of Kibana's grid; a row is about 20 pixels high."""

Id = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Text = Annotated[str, Meta(min_length=1)]
Color = Annotated[str, Meta(pattern=r"^(#[0-9A-Fa-f]{6}|[a-z]+)$")]
"""A hexadecimal color, or a name in `COLORS`."""
Position = tuple[Annotated[int, Meta(ge=0, lt=COLUMNS)], Annotated[int, Meta(ge=0)]]
Size = tuple[Annotated[int, Meta(ge=2, le=COLUMNS)], Annotated[int, Meta(ge=2)]]

COLORS = {
    "good": "#209280",
    "bad": "#CC5642",
    "warning": "#B58900",
    "neutral": "#7B8794",
    "main": "#3B7DD8",
    "second": "#8E6BBF",
    "third": "#D9702B",
}
"""Colors with the same meaning on every dashboard, with a contrast of at least 3 on light and dark backgrounds."""


class InvalidDashboard(Exception):
    """An invalid source; the message names the file and, if possible, the panel."""


class Threshold(Struct, frozen=True, forbid_unknown_fields=True):
    """The color of numbers from this value up to the next threshold."""

    value: float
    color: Color


class Column(Struct, frozen=True, forbid_unknown_fields=True):
    """A column of the query's result and how to show it.

    Attributes:
        label: the displayed name; defaults to `column`.
        format: `number`; `percent` for a share from 0 to 1; `bytes`; `text`, unchanged; `date`.
        decimals: digits after the decimal point.
        compact: 1.2k for 1,234.
        prefix: shown before a number.
        suffix: shown after a number, such as " stars".
        color: the color of this column's line, bars or number.
        colors: for a breakdown or slices, the color of each value.
        thresholds: for numbers in a metric, table or heatmap, colors by value in ascending order.
    """

    column: Text
    label: str = ""
    format: Literal["number", "percent", "bytes", "text", "date"] = "number"
    decimals: Annotated[int, Meta(ge=0, le=10)] = 0
    compact: bool = False
    prefix: Literal["", "$"] = ""
    suffix: str = ""
    color: Color | None = None
    colors: dict[str, Color] = {}
    thresholds: tuple[Threshold, ...] = ()

    @property
    def title(self) -> str:
        return self.label or self.column


class Panel(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="chart"):
    """The common fields of panels: the position `at` (column, row) and `size` (columns, rows) on the grid.

    Kibana shows `description` behind an icon beside the title. It explains how to read the panel and what to do.
    """

    id: Id
    title: str
    description: str = ""
    at: Position
    size: Size

    @property
    def columns(self) -> tuple[Column, ...]:
        """Every column of the query's result that the panel shows."""
        return ()


class QueryPanel(Panel, frozen=True, kw_only=True):
    """A panel with an ES|QL query; `?_tstart` and `?_tend` are the dashboard's time range."""

    esql: Text


class Metric(QueryPanel, frozen=True, kw_only=True, tag="metric"):
    """One large number, from a result of one row."""

    value: Column
    subtitle: str = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.value,)


class _Series(QueryPanel, frozen=True, kw_only=True):
    """One series of numbers per column in `y`, along `x`; with a `breakdown`, one per value of it."""

    x: Column
    y: Annotated[tuple[Column, ...], Meta(min_length=1)]
    breakdown: Column | None = None
    x_title: str = ""
    y_title: str = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.x, *self.y, *([self.breakdown] if self.breakdown else []))


class Line(_Series, frozen=True, kw_only=True, tag="line"):
    """Lines. With `from_zero = false` the axis starts at the minimum, to make small differences visible."""

    from_zero: bool = True


class Area(_Series, frozen=True, kw_only=True, tag="area"):
    """Stacked areas, absolute or as shares of their sum."""

    stack: Literal["stacked", "percent"] = "stacked"


class Bar(_Series, frozen=True, kw_only=True, tag="bar"):
    """Vertical or horizontal bars; those of a breakdown are stacked, stacked to 100 %, or grouped."""

    stack: Literal["stacked", "percent", "grouped"] = "stacked"
    horizontal: bool = False


class Table(QueryPanel, frozen=True, kw_only=True, tag="table"):
    """The rows in the order of the query, with the columns in `show`."""

    show: Annotated[tuple[Column, ...], Meta(min_length=1)]
    rows_per_page: Literal[10, 20, 30, 50, 100] = 10

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.show


class Pie(QueryPanel, frozen=True, kw_only=True, tag="pie"):
    """Shares of a whole, as a ring with `donut`."""

    slices: Column
    value: Column
    donut: bool = True

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.slices, self.value)


class Heatmap(QueryPanel, frozen=True, kw_only=True, tag="heatmap"):
    """A cell for each `x` and `y`, colored by the thresholds of `value`."""

    x: Column
    y: Column
    value: Column

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.x, self.y, self.value)


class Markdown(Panel, frozen=True, kw_only=True, tag="markdown"):
    """Static text."""

    text: Text


class Search(Panel, frozen=True, kw_only=True, tag="search"):
    """Documents as in Discover, newest first: `fields` of those in `index` that match the KQL `query`."""

    index: Text
    fields: Annotated[tuple[Text, ...], Meta(min_length=1)]
    query: str = ""


AnyPanel = Metric | Line | Area | Bar | Table | Pie | Heatmap | Markdown | Search
SeriesPanel = Line | Area | Bar


class Control(Struct, frozen=True, forbid_unknown_fields=True):
    """A list of a field's values above the dashboard; the selected ones filter every panel."""

    id: Id
    title: Text
    index: Text
    field: Text


class Dashboard(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dashboard. `since` is the start of its time range, as in Kibana; `refresh` is in seconds, 0: never."""

    id: Id
    title: Text
    description: Text
    since: Annotated[str, Meta(pattern=r"^now-\d+[smhdwMy](/[dwMy])?$")] = "now-1h"
    refresh: Annotated[int, Meta(ge=0)] = 30
    controls: tuple[Control, ...] = field(default=(), name="control")
    panels: Annotated[tuple[AnyPanel, ...], Meta(min_length=1)] = field(name="panel")


# Fields where a source may give a column's name instead of a table, and their default formats.
_COLUMN_FIELDS = {
    "value": "number",
    "x": "text",
    "y": "number",
    "breakdown": "text",
    "slices": "text",
    "show": "number",
}


def _normalize(panel: dict[str, Any]) -> dict[str, Any]:
    """The panel with a table and a format for each column. Errors are left for the decoder to report."""

    def table(value: Any, role: str) -> Any:
        if isinstance(value, list):
            return [table(item, role) for item in value]
        column = {"column": value} if isinstance(value, str) else value
        if not isinstance(column, dict):
            return column
        is_time = role == "x" and str(column.get("column")).startswith("BUCKET(@timestamp,")
        is_name = role == "y" and panel.get("chart") == "heatmap"
        return {"format": "date" if is_time else "text" if is_name else _COLUMN_FIELDS[role]} | column

    return {key: table(value, key) if key in _COLUMN_FIELDS else value for key, value in panel.items()}


def parse(text: str, file: str) -> Dashboard:
    """Parse a source.

    Args:
        file: its name, for error messages.

    Raises:
        InvalidDashboard: the source is not TOML, or a field is missing, unknown or has the wrong type.
    """
    try:
        content = tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        # Not a TOMLDecodeError alone: a number may have thousands of digits.
        raise InvalidDashboard(f"{file}: {error!s:.500}") from None
    panels = content.get("panel", [])
    if not isinstance(panels, list) or not all(isinstance(panel, dict) for panel in panels):
        raise InvalidDashboard(f"{file}: write each panel as a [[panel]]")
    # One by one, so that an error can name the panel's id.
    found = []
    for position, panel in enumerate(panels, 1):
        try:
            found.append(msgspec.convert(_normalize(panel), AnyPanel))
        except msgspec.ValidationError as error:
            raise InvalidDashboard(f"{file}: panel {panel.get('id', position)!r:.100}: {error!s:.500}") from None
    try:
        return msgspec.convert(content | {"panel": tuple(found)}, Dashboard)
    except msgspec.ValidationError as error:
        raise InvalidDashboard(f"{file}: {error!s:.500}") from None


def load(path: Path) -> Dashboard:
    """Read and parse a source file. Raises the errors of `parse` and of reading."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidDashboard(f"{path.name}: {error}; save it as UTF-8") from None
    return parse(text, path.name)


def shipped() -> Path:
    """The folder of the shipped dashboards."""
    return Path(str(resources.files("monitoring.dashboards"))) / "kibana"


def sources(folder: Path | None = None) -> list[Path]:
    """All sources in a folder, by name; by default the shipped ones."""
    return sorted((folder or shipped()).glob("*.toml"))


def load_all(folder: Path | None = None) -> list[Dashboard]:
    """All dashboards in a folder, by default the shipped ones. Raises the errors of `load`."""
    return [load(path) for path in sources(folder)]
