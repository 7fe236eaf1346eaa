"""Checks dashboards: the files alone, or by running every query on Elasticsearch."""

import re
from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta
from itertools import combinations
from typing import NamedTuple

from elasticsearch import Elasticsearch
from msgspec import Struct

from monitoring.dashboards.esql import UnreadableQuery, shape
from monitoring.dashboards.fields import Fields
from monitoring.dashboards.queries import QueryFailed, QueryResult, run_query
from monitoring.dashboards.source import (
    COLORS,
    COLUMNS,
    Column,
    Dashboard,
    Heatmap,
    Metric,
    Panel,
    QueryPanel,
    Search,
)

_TYPES = {
    "number": {"double", "long", "integer", "unsigned_long", "counter_long", "counter_double"},
    "percent": {"double", "long", "integer"},
    "bytes": {"double", "long", "integer"},
    "text": {"keyword", "text", "ip", "version", "boolean"},
    "date": {"date", "date_nanos"},
}
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800, "M": 2_592_000, "y": 31_536_000}


class Problem(Struct, frozen=True):
    """One problem; `panel` is empty if it concerns the dashboard."""

    dashboard: str
    panel: str
    message: str

    def __str__(self) -> str:
        return f"{self.dashboard}{'/' if self.panel else ''}{self.panel}: {self.message}"


def lint(dashboards: Iterable[Dashboard], fields: dict[str, Fields]) -> list[Problem]:
    """The problems of the files alone.

    Args:
        fields: the fields of each index pattern; see `fields.mapped_fields`.
    """
    dashboards = list(dashboards)
    problems = [Problem(name, "", "duplicate id") for name in _duplicates(one.id for one in dashboards)]
    for dashboard in dashboards:
        problems += [Problem(dashboard.id, panel, message) for panel, message in _lint_one(dashboard, fields)]
    return problems


class QueryCheck(NamedTuple):
    """A panel whose query was run. `result` is None if the query failed."""

    dashboard: Dashboard
    panel: QueryPanel
    result: QueryResult | None
    problems: list[Problem]


def check_queries(client: Elasticsearch, dashboards: Iterable[Dashboard], end: datetime) -> Iterator[QueryCheck]:
    """Run each query for its dashboard's time range up to `end`, and compare the result with the panel's columns.

    Raises:
        elasticsearch.TransportError: no response.
    """
    for dashboard in dashboards:
        start = end - span(dashboard.since)
        for panel in dashboard.panels:
            if isinstance(panel, QueryPanel):
                try:
                    result = run_query(client, panel, start, end)
                except QueryFailed as error:
                    yield QueryCheck(dashboard, panel, None, [Problem(dashboard.id, panel.id, str(error))])
                    continue
                messages = _compare(panel, result)
                yield QueryCheck(dashboard, panel, result, [Problem(dashboard.id, panel.id, text) for text in messages])


def count_queries(dashboards: Iterable[Dashboard]) -> int:
    """The number of queries that `check_queries` runs."""
    return sum(isinstance(panel, QueryPanel) for dashboard in dashboards for panel in dashboard.panels)


def span(since: str) -> timedelta:
    """The length of a time range that starts at, for example, `now-24h`; rounding, as in `now-1d/d`, adds one unit."""
    amount, _, rounding = since.removeprefix("now-").partition("/")
    seconds = int(amount[:-1]) * _UNITS[amount[-1]] + (_UNITS[rounding] if rounding else 0)
    return timedelta(seconds=seconds)


def _duplicates(values: Iterable[str]) -> list[str]:
    return [value for value, count in Counter(values).items() if count > 1]


def _lint_one(dashboard: Dashboard, fields: dict[str, Fields]) -> Iterator[tuple[str, str]]:
    for panel_id in _duplicates(panel.id for panel in dashboard.panels):
        yield panel_id, "duplicate id"
    for control_id in _duplicates(control.id for control in dashboard.controls):
        yield "", f"duplicate control {control_id}"
    for control in dashboard.controls:
        if control.index not in fields:
            yield "", f"control {control.id}: no template matches {control.index}"
        elif not fields[control.index].has(control.field):
            yield "", f"control {control.id}: {control.index} has no field {control.field}"
    for panel in dashboard.panels:
        if panel.at[0] + panel.size[0] > COLUMNS:
            yield panel.id, f"it ends at column {panel.at[0] + panel.size[0]} of {COLUMNS}"
    for one, other in combinations(dashboard.panels, 2):
        if _overlap(one, other):
            yield other.id, f"it overlaps the panel {one.id}"
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
            yield f"unknown color {color}; the colors are {', '.join(COLORS)}"
    values = [threshold.value for threshold in column.thresholds]
    if values != sorted(set(values)):
        yield f"the thresholds of {column.column} are not ascending"
    if column.thresholds and column.format in ("text", "date"):
        yield f"{column.column} has thresholds but is not a number"


def _lint_query(panel: QueryPanel, fields: dict[str, Fields]) -> Iterator[str]:
    try:
        found = shape(panel.esql)
    except UnreadableQuery as error:
        yield f"query: {error}"
        return
    if found.pattern not in fields:
        yield f"query: no template matches {found.pattern}; the patterns are {', '.join(sorted(fields))}"
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
                yield f"the query returns no column {column.column}; it returns {', '.join(sorted(found.columns))}"
    else:
        yield "query: returns all fields of the index; select columns with STATS or KEEP"
    for parameter in ("?_tstart", "?_tend"):
        if parameter not in panel.esql:
            yield f"query: is not limited to the dashboard's time range, {parameter} is missing"
    if not found.limited:
        yield "query: has no LIMIT, so Elasticsearch silently truncates it at 1,000 rows"
    if re.search(r"\bSUM\(CASE\(", panel.esql):
        yield "query: SUM(CASE()) is null where nothing matches, and shown as -; COUNT(*) WHERE is 0"
    for column in panel.columns:
        # A heatmap shows the greatest value of a cell: to hide the newest one would be worse than a cell that grows.
        if column.column.startswith("BUCKET(@timestamp") and not isinstance(panel, Heatmap):
            yield from _lint_bucket(panel.esql, column.column)
    if found.aliased_bucket:
        yield "query: do not rename BUCKET; name the column by its full expression"


def _lint_bucket(query: str, bucket: str) -> Iterator[str]:
    """The first and the last bucket of a time range are hardly ever whole, and look like a drop in the traffic."""
    end, _, rest = bucket.removeprefix("BUCKET(@timestamp").partition(")")
    unfinished = re.search(rf"(\w+) = BUCKET\((\w+){re.escape(end)}\)", query)
    if (
        rest
        or unfinished is None
        or f"{unfinished[2]} = TO_DATETIME(?_tend)" not in query
        or f"`{bucket}` >= ?_tstart AND `{bucket}` < {unfinished[1]}" not in query
    ):
        yield (
            "query: shows buckets that are not whole: EVAL range_end = TO_DATETIME(?_tend), "
            f"group also BY unfinished = BUCKET(range_end{end}), "
            f"then WHERE `{bucket}` >= ?_tstart AND `{bucket}` < unfinished"
        )


def _lint_search(panel: Search, fields: dict[str, Fields]) -> Iterator[str]:
    if panel.index not in fields:
        yield f"no template matches {panel.index}; the patterns are {', '.join(sorted(fields))}"
        return
    for name in panel.fields:
        if not fields[panel.index].is_shown(name):
            yield f"{panel.index} has no field {name}"


def _compare(panel: QueryPanel, result: QueryResult) -> Iterator[str]:
    types = dict(result.columns)
    for column in panel.columns:
        kind = types.get(column.column)
        if kind is None:
            yield f"the result has no column {column.column}; it has {', '.join(result.names)}"
        elif kind not in _TYPES[column.format]:
            yield f"{column.column} is shown as {column.format} but has type {kind}"
    if isinstance(panel, Metric) and len(result.rows) > 1:
        yield f"shows one number but the result has {len(result.rows)} rows"
