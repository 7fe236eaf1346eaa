"""The source of a dashboard: one TOML file, as frozen Structs.

A file has the fields of `Dashboard` at its top and a `[[panel]]` for each panel, whose `chart` says which of the panel
Structs below it is. A column may be written as its name alone, or as a table with label, format and color. A column
without a format is a number; but an `x` is a date where it is a BUCKET of @timestamp, and else a text, as breakdown,
slices and the `y` of a heatmap are.
"""

import tomllib
from importlib import resources
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta, Struct, field

COLUMNS = 48
"""The width of Kibana's grid; a row of it is about 20 pixels high."""

Id = Annotated[str, Meta(pattern=r"^[a-z0-9][a-z0-9-]*$")]
Text = Annotated[str, Meta(min_length=1)]
Color = Annotated[str, Meta(pattern=r"^(#[0-9A-Fa-f]{6}|[a-z]+)$")]
"""A hexadecimal color, or a name in `COLORS`."""
Place = tuple[Annotated[int, Meta(ge=0, lt=COLUMNS)], Annotated[int, Meta(ge=0)]]
Size = tuple[Annotated[int, Meta(ge=2, le=COLUMNS)], Annotated[int, Meta(ge=2)]]

COLORS = {
    "good": "#209280",
    "bad": "#CC5642",
    "warning": "#D6A100",
    "neutral": "#98A2B3",
    "main": "#3B7DD8",
    "second": "#8E6BBF",
    "third": "#E07B39",
    "dark": "#343741",
}
"""What a color means, the same on every dashboard; all of them stand out on a white and on a black ground."""


class InvalidDashboard(Exception):
    """A source that can't be read; the message names the file and, where it is in one, the panel."""


class Threshold(Struct, frozen=True, forbid_unknown_fields=True):
    """From this value on, up to the next threshold, a number has this color."""

    value: float
    color: Color


class Column(Struct, frozen=True, forbid_unknown_fields=True):
    """A column of the query's answer, by its name there, and how it is shown.

    Attributes:
        label: what people read; the name where there is none.
        format: `number`; `percent` of a share from 0 to 1; `bytes`; `text`, as it is; `date`.
        decimals: digits behind the point.
        compact: 1.2k for 1,234.
        prefix: put before a number.
        suffix: put behind a number, such as " stars".
        color: of this column's line, bars or number.
        colors: of a breakdown or of slices: the color of each value.
        thresholds: of a metric, a table's or a heatmap's number: its color by value, in rising order.
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
    """What every panel has: where it is, `at` (column, row), and its `size` (columns, rows) on the grid.

    `description` is what the small sign beside the title shows: what to read from the panel, and what to do then.
    """

    id: Id
    title: str
    description: str = ""
    at: Place
    size: Size

    @property
    def columns(self) -> tuple[Column, ...]:
        """Every column that the panel shows of its query's answer."""
        return ()


class QueryPanel(Panel, frozen=True, kw_only=True):
    """A panel that shows the answer of an ES|QL query; `?_tstart` and `?_tend` are the dashboard's time range."""

    esql: Text


class Metric(QueryPanel, frozen=True, kw_only=True, tag="metric"):
    """One number of one row, large."""

    value: Column
    subtitle: str = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.value,)


class _Series(QueryPanel, frozen=True, kw_only=True):
    """Numbers `y` along `x`: a series each, and where there is a `breakdown` one for each of its values too."""

    x: Column
    y: Annotated[tuple[Column, ...], Meta(min_length=1)]
    breakdown: Column | None = None
    x_title: str = ""
    y_title: str = ""

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.x, *self.y, *([self.breakdown] if self.breakdown else []))


class Line(_Series, frozen=True, kw_only=True, tag="line"):
    """Lines, from zero up or, where differences are small and zero says nothing, as high as the numbers are."""

    from_zero: bool = True


class Area(_Series, frozen=True, kw_only=True, tag="area"):
    """Areas, one upon the other, or as shares of their sum."""

    stack: Literal["stacked", "percent"] = "stacked"


class Bar(_Series, frozen=True, kw_only=True, tag="bar"):
    """Bars, upright or lying; a breakdown's stand upon (`stacked`, `percent`) or beside (`grouped`) one another."""

    stack: Literal["stacked", "percent", "grouped"] = "stacked"
    horizontal: bool = False


class Table(QueryPanel, frozen=True, kw_only=True, tag="table"):
    """Rows as the query sorted them; of the columns those named in `show`."""

    show: Annotated[tuple[Column, ...], Meta(min_length=1)]
    rows_per_page: Literal[10, 20, 30, 50, 100] = 10

    @property
    def columns(self) -> tuple[Column, ...]:
        return self.show


class Pie(QueryPanel, frozen=True, kw_only=True, tag="pie"):
    """Shares of a whole, as a ring if `donut`."""

    slices: Column
    value: Column
    donut: bool = True

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.slices, self.value)


class Heatmap(QueryPanel, frozen=True, kw_only=True, tag="heatmap"):
    """A colored cell for each `x` and `y`; the thresholds of `value` say which color."""

    x: Column
    y: Column
    value: Column

    @property
    def columns(self) -> tuple[Column, ...]:
        return (self.x, self.y, self.value)


class Markdown(Panel, frozen=True, kw_only=True, tag="markdown"):
    """Text for people."""

    text: Text


class Search(Panel, frozen=True, kw_only=True, tag="search"):
    """Documents as Discover shows them, newest first: `fields` of those in `index` that match a KQL `query`."""

    index: Text
    fields: Annotated[tuple[Text, ...], Meta(min_length=1)]
    query: str = ""


AnyPanel = Metric | Line | Area | Bar | Table | Pie | Heatmap | Markdown | Search
SeriesPanel = Line | Area | Bar


class Control(Struct, frozen=True, forbid_unknown_fields=True):
    """A list above the dashboard from which to pick values of a field; picked ones filter every panel."""

    id: Id
    title: Text
    index: Text
    field: Text


class Dashboard(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A dashboard. `since` is the beginning of its time range, as in Kibana; `refresh` in seconds, 0 for never."""

    id: Id
    title: Text
    description: Text
    since: Annotated[str, Meta(pattern=r"^now-\d+[smhdwMy](/[dwMy])?$")] = "now-1h"
    refresh: Annotated[int, Meta(ge=0)] = 30
    controls: tuple[Control, ...] = field(default=(), name="control")
    panels: Annotated[tuple[AnyPanel, ...], Meta(min_length=1)] = field(name="panel")


# Where a source may give a column's name instead of a table, and the format of a column there that gives none.
_COLUMN_FIELDS = {
    "value": "number",
    "x": "text",
    "y": "number",
    "breakdown": "text",
    "slices": "text",
    "show": "number",
}


def _written_out(panel: dict[str, Any]) -> dict[str, Any]:
    """The panel with a table for each column, and a format in it. What is wrong stays, for the decoder to name."""

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
    """The dashboard of a source.

    Args:
        file: its name, for errors.

    Raises:
        InvalidDashboard: it is no TOML, or a field is missing, unknown or of the wrong type.
    """
    try:
        content = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise InvalidDashboard(f"{file}: {error}") from None
    panels = content.get("panel", [])
    if not isinstance(panels, list) or not all(isinstance(panel, dict) for panel in panels):
        raise InvalidDashboard(f"{file}: write each panel as a [[panel]]")
    # Each panel by itself, so that an error can name it by its id.
    found = []
    for position, panel in enumerate(panels, 1):
        try:
            found.append(msgspec.convert(_written_out(panel), AnyPanel))
        except msgspec.ValidationError as error:
            raise InvalidDashboard(f"{file}: panel {panel.get('id', position)!r}: {error}") from None
    try:
        return msgspec.convert(content | {"panel": tuple(found)}, Dashboard)
    except msgspec.ValidationError as error:
        raise InvalidDashboard(f"{file}: {error}") from None


def load(path: Path) -> Dashboard:
    """The dashboard of a source file. Raises as `parse` does, and what reading raises."""
    try:
        text = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise InvalidDashboard(f"{path.name}: {error}; save it as UTF-8") from None
    return parse(text, path.name)


def shipped() -> Path:
    """The folder of the dashboards that come along."""
    return Path(str(resources.files("monitoring.dashboards"))) / "kibana"


def sources(folder: Path | None = None) -> list[Path]:
    """Every source in a folder, by name; by default those that come along."""
    return sorted((folder or shipped()).glob("*.toml"))


def load_all(folder: Path | None = None) -> list[Dashboard]:
    """Every dashboard in a folder; by default those that come along. Raises as `load` does."""
    return [load(path) for path in sources(folder)]
