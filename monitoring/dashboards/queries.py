"""Runs the queries of panels on Elasticsearch, as Kibana does."""

from datetime import datetime
from typing import Any, NamedTuple

from elasticsearch import ApiError, Elasticsearch

from monitoring.dashboards.source import QueryPanel
from monitoring.elastic.client import request


class QueryResult(NamedTuple):
    """Columns, each with its name and ES|QL type, and rows of values."""

    columns: tuple[tuple[str, str], ...]
    rows: list[list[Any]]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.columns]


class QueryFailed(Exception):
    """Elasticsearch rejected a query; the message is its own."""


def run_query(client: Elasticsearch, panel: QueryPanel, start: datetime, end: datetime) -> QueryResult:
    """The result of a panel's query for a time range.

    Like Kibana, this filters the documents by the range, whether the query does so itself or not.

    Raises:
        QueryFailed: Elasticsearch rejected it: unknown index or column, wrong type, wrong syntax.
        elasticsearch.TransportError: no response.
    """
    moments = {"_tstart": start.isoformat(), "_tend": end.isoformat()}
    body = {
        "query": panel.esql,
        "params": [{name: value} for name, value in moments.items() if f"?{name}" in panel.esql],
        "filter": {"range": {"@timestamp": {"gte": moments["_tstart"], "lte": moments["_tend"]}}},
    }
    try:
        answer = request(client, "POST", "/_query", body)
    except ApiError as error:
        raise QueryFailed(_reason(error)) from error
    columns = tuple((column["name"], column["type"]) for column in answer["columns"])
    return QueryResult(columns, answer["values"])


def _reason(error: ApiError) -> str:
    try:
        return str(error.body["error"]["reason"])
    except (KeyError, TypeError):
        return str(error)
