"""What is wrong with dashboards: told from the files alone, or by running every query on a search node."""

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import combinations
from typing import NamedTuple

from elasticsearch import Elasticsearch
from msgspec import Struct

from monitoring.dashboards.esql import UnreadableQuery, shape
from monitoring.dashboards.fields import Fields
from monitoring.dashboards.queries import Answer, QueryFailed, ask
from monitoring.dashboards.source import COLORS, COLUMNS, Column, Dashboard, Metric, Panel, QueryPanel, Search

_TYPES = {
    "number": {"double", "long", "integer", "unsigned_long", "counter_long", "counter_double"},
    "percent": {"double", "long", "integer"},
    "bytes": {"double", "long", "integer"},
    "text": {"keyword", "text", "ip", "version", "boolean"},
    "date": {"date", "date_nanos"},
}
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "M": 2_592_000, "y": 31_536_000}


class Problem(Struct, frozen=True):
    """One thing that is wrong; `panel` is empty where it is about the dashboard."""

    dashboard: str
    panel: str
    message: str

    def __str__(self) -> str:
        return f"{self.dashboard}{'/' if self.panel else ''}{self.panel}: {self.message}"


def lint(dashboards: Iterable[Dashboard], fields: dict[str, Fields]) -> list[Problem]:
    """What is wrong as far as the files tell.

    Args:
        fields: those of each index pattern, as `fields.mapped_fields` has them.
    """
    dashboards = list(dashboards)
    problems = [Problem(name, "", "this id is used twice") for name in _twice(one.id for one in dashboards)]
    for dashboard in dashboards:
        problems += [Problem(dashboard.id, panel, message) for panel, message in _lint_one(dashboard, fields)]
    return problems


class Ran(NamedTuple):
    """A query that was run, and what it answered; None if it failed."""

    dashboard: Dashboard
    panel: QueryPanel
    answer: Answer | None
    problems: list[Problem]


def run(client: Elasticsearch, dashboards: Iterable[Dashboard], end: datetime) -> Iterator[Ran]:
    """Run each query for its dashboard's time range up to `end`, and compare the answer with what the panel shows.

    Raises:
        elasticsearch.TransportError: no answer.
    """
    for dashboard in dashboards:
        start = end - span(dashboard.since)
        for panel in dashboard.panels:
            if isinstance(panel, QueryPanel):
                try:
                    answer = ask(client, panel, start, end)
                except QueryFailed as error:
                    yield Ran(dashboard, panel, None, [Problem(dashboard.id, panel.id, str(error))])
                    continue
                messages = _compared(panel, answer)
                yield Ran(dashboard, panel, answer, [Problem(dashboard.id, panel.id, text) for text in messages])


def queries(dashboards: Iterable[Dashboard]) -> int:
    """How many queries `run` runs."""
    return sum(isinstance(panel, QueryPanel) for dashboard in dashboards for panel in dashboard.panels)


def span(since: str) -> timedelta:
    """How long a time range is that begins so, such as `now-24h`; the rounding in `now-1d/d` adds up to a unit."""
    amount, _, rounding = since.removeprefix("now-").partition("/")
    seconds = int(amount[:-1]) * _UNITS[amount[-1]] + (_UNITS[rounding] if rounding else 0)
    return timedelta(seconds=seconds)


def _twice(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]


def _lint_one(dashboard: Dashboard, fields: dict[str, Fields]) -> Iterator[tuple[str, str]]:
    for panel_id in _twice(panel.id for panel in dashboard.panels):
        yield panel_id, "this id is used twice"
    for control_id in _twice(control.id for control in dashboard.controls):
        yield "", f"the control {control_id} is there twice"
    for control in dashboard.controls:
        if control.index not in fields:
            yield "", f"control {control.id}: no template of ours is for {control.index}"
        elif not fields[control.index].has(control.field):
            yield "", f"control {control.id}: {control.index} has no field {control.field}"
    for panel in dashboard.panels:
        if panel.at[0] + panel.size[0] > COLUMNS:
            yield panel.id, f"it ends at column {panel.at[0] + panel.size[0]} of {COLUMNS}"
    for one, other in combinations(dashboard.panels, 2):
        if _overlap(one, other):
            yield other.id, f"it lies upon the panel {one.id}"
    for panel in dashboard.panels:
        for column in panel.columns:
            for message in _lint_column(column):
                yield panel.id, message
        if isinstance(panel, QueryPanel):
            for message in _lint_query(panel, fields):
                yield panel.id, message
        elif isinstance(panel, Search):
            for message in _lint_search(panel, fields):
                yield panel.id, message


def _overlap(one: Panel, other: Panel) -> bool:
    return all(
        one.at[axis] < other.at[axis] + other.size[axis] and other.at[axis] < one.at[axis] + one.size[axis]
        for axis in (0, 1)
    )


def _lint_column(column: Column) -> Iterator[str]:
    used = [column.color, *column.colors.values(), *(threshold.color for threshold in column.thresholds)]
    for color in used:
        if color and not color.startswith("#") and color not in COLORS:
            yield f"there is no color {color}; there are {', '.join(COLORS)}"
    values = [threshold.value for threshold in column.thresholds]
    if values != sorted(set(values)):
        yield f"the thresholds of {column.column} do not rise"
    if column.thresholds and column.format in ("text", "date"):
        yield f"{column.column} has thresholds and is no number"


def _lint_query(panel: QueryPanel, fields: dict[str, Fields]) -> Iterator[str]:
    try:
        found = shape(panel.esql)
    except UnreadableQuery as error:
        yield f"query: {error}"
        return
    if found.pattern not in fields:
        yield f"query: no template of ours is for {found.pattern}; there are {', '.join(sorted(fields))}"
        return
    known = fields[found.pattern]
    for name in sorted(found.fields):
        if not known.has(name):
            yield f"query: {found.pattern} has no field {name} that a query can read"
    for name in sorted(found.kql_fields):
        if not known.is_searchable(name):
            yield f"query: {found.pattern} has no field {name} that KQL can search"
    if found.columns is not None:
        for column in panel.columns:
            if column.column not in found.columns:
                yield f"the query gives no column {column.column}; it gives {', '.join(sorted(found.columns))}"
    else:
        yield "query: ends with all fields of the index; name the wanted ones with STATS or KEEP"
    for parameter in ("?_tstart", "?_tend"):
        if parameter not in panel.esql:
            yield f"query: is not limited to the dashboard's time range, {parameter} is missing"
    if not found.limited:
        yield "query: has no LIMIT, so Elasticsearch cuts it at 1,000 rows without a word"
    if found.aliased_bucket:
        yield "query: give BUCKET no other name, and name the column by its whole text"


def _lint_search(panel: Search, fields: dict[str, Fields]) -> Iterator[str]:
    if panel.index not in fields:
        yield f"no template of ours is for {panel.index}; there are {', '.join(sorted(fields))}"
        return
    for name in panel.fields:
        if not fields[panel.index].is_shown(name):
            yield f"{panel.index} has no field {name}"


def _compared(panel: QueryPanel, answer: Answer) -> Iterator[str]:
    types = dict(answer.columns)
    for column in panel.columns:
        kind = types.get(column.column)
        if kind is None:
            yield f"the answer has no column {column.column}; it has {', '.join(answer.names)}"
        elif kind not in _TYPES[column.format]:
            yield f"{column.column} is shown as a {column.format} and is a {kind}"
    if isinstance(panel, Metric) and len(answer.rows) > 1:
        yield f"shows one number and the answer has {len(answer.rows)} rows"
