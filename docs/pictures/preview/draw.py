"""Asking for what the panels of a board show, and drawing it."""

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
import vl_convert
from elasticsearch import Elasticsearch

from docs.pictures.preview import compose, tiles
from docs.pictures.preview.charts import chart_spec
from docs.pictures.preview.series import Frame
from monitoring.dashboards.queries import QueryFailed, QueryResult, run_query
from monitoring.dashboards.source import Dashboard, Markdown, Metric, Panel, QueryPanel, Search, Table
from monitoring.elastic.client import request

VEGA_LITE = "5.21"
_MOST_DOCUMENTS = 50


class Documents(NamedTuple):
    """The newest documents of a search panel, and how many there are of them."""

    newest: list[dict[str, Any]]
    total: int


class Failed(NamedTuple):
    """Elasticsearch's reason for rejecting a query."""

    reason: str


Found = QueryResult | Documents | Failed
Results = Mapping[str, Found]


class Picture(NamedTuple):
    """A board as SVG, the panels of it that had nothing to show, and why queries failed, by panel."""

    dashboard: Dashboard
    svg: str
    empty: list[str]
    failed: dict[str, str]

    def png(self, scale: float) -> bytes:
        """The picture in pixels: `scale` of them for each of the SVG's."""
        return vl_convert.svg_to_png(self.svg, scale=scale)


def fetch(client: Elasticsearch, dashboard: Dashboard, start: datetime, end: datetime) -> Results:
    """What each panel with a query shows of a time range; a rejected query affects its panel only.

    Raises:
        elasticsearch.ApiError: it rejected a search for documents.
        elasticsearch.TransportError: no response.
    """
    found: dict[str, Found] = {}
    for panel in dashboard.panels:
        if isinstance(panel, QueryPanel):
            try:
                found[panel.id] = run_query(client, panel, start, end)
            except QueryFailed as error:
                found[panel.id] = Failed(str(error))
        elif isinstance(panel, Search):
            found[panel.id] = _documents(client, panel, start, end)
    return found


def _documents(client: Elasticsearch, panel: Search, start: datetime, end: datetime) -> Documents:
    filters: list[dict[str, Any]] = [{"range": {"@timestamp": {"gte": start.isoformat(), "lt": end.isoformat()}}}]
    if panel.query:
        filters.append({"kql": {"query": panel.query}})
    body = {
        "query": {"bool": {"filter": filters}},
        "sort": [{"@timestamp": "desc"}],
        "size": _MOST_DOCUMENTS,
        "track_total_hits": True,
    }
    hits = request(client, "POST", f"/{panel.index}/_search", body)["hits"]
    return Documents([hit["_source"] for hit in hits["hits"]], hits["total"]["value"])


def picture(dashboard: Dashboard, results: Results, start: datetime, end: datetime) -> Picture:
    """Draw a board.

    Args:
        results: of each panel with a query, by its id.
    """
    contents = {}
    empty = []
    failed = {panel: found.reason for panel, found in results.items() if isinstance(found, Failed)}
    for number, panel in enumerate(dashboard.panels):
        found = _content(panel, results.get(panel.id), start, end, f"p{number}-")
        if found is None:
            empty.append(panel.id)
        else:
            contents[panel.id] = found
    return Picture(dashboard, compose.compose(dashboard, contents, start, end), empty, failed)


def _content(panel: Panel, found: Found | None, start: datetime, end: datetime, prefix: str) -> str | None:
    room = compose.room(panel)
    if isinstance(panel, Markdown):
        return tiles.markdown(panel, room.width, room.height)
    if isinstance(panel, Search):
        assert isinstance(found, Documents), panel.id
        return tiles.documents(panel, found.newest, found.total, room.width, room.height) if found.newest else None
    if isinstance(found, Failed):
        return tiles.message(found.reason, room.width, room.height)
    assert isinstance(panel, QueryPanel), panel
    assert isinstance(found, QueryResult), panel.id
    if is_empty(panel, found):
        return None
    if isinstance(panel, Metric):
        return tiles.metric(panel, found, room.width, room.height)
    if isinstance(panel, Table):
        return tiles.table(panel, found, room.width, room.height)
    spec = chart_spec(panel, found, Frame(room.width, room.height, start, end))
    return compose.nested(vl_convert.vegalite_to_svg(msgspec.json.encode(spec).decode(), vl_version=VEGA_LITE), prefix)


def is_empty(panel: QueryPanel, answer: QueryResult) -> bool:
    """Whether there is nothing to draw: no rows, or in none of them a number, as SUM and MAX over no documents give."""
    shown = [answer.names.index(column.column) for column in panel.columns if column.format not in ("text", "date")]
    return not any(not shown or any(row[place] is not None for place in shown) for row in answer.rows)
