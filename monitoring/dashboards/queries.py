"""The queries of panels, run on a search node as Kibana runs them."""

from datetime import datetime
from typing import Any, NamedTuple

from elasticsearch import ApiError, Elasticsearch

from monitoring.dashboards.source import QueryPanel
from monitoring.elastic.client import request


class Answer(NamedTuple):
    """What a query answered: the columns, each a name and its type in ES|QL, and a list of values for each row."""

    columns: tuple[tuple[str, str], ...]
    rows: list[list[Any]]

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.columns]


class QueryFailed(Exception):
    """The search node refused a query; the message is its own."""


def ask(client: Elasticsearch, panel: QueryPanel, start: datetime, end: datetime) -> Answer:
    """The answer to the panel's query for a time range.

    Like Kibana, this narrows the query to documents of the range, whether the query does so itself or not.

    Raises:
        QueryFailed: the search node refused it: unknown index or column, wrong type, wrong syntax.
        elasticsearch.TransportError: no answer.
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
    return Answer(columns, answer["values"])


def _reason(error: ApiError) -> str:
    try:
        return str(error.body["error"]["reason"])
    except (KeyError, TypeError):
        return str(error)
