"""Bulk requests."""

from typing import Any

from elasticsearch import Elasticsearch

from monitoring.elastic.client import JSON, NDJSON, StrangeAnswerError


def bulk(client: Elasticsearch, lines: bytes) -> list[dict[str, Any]]:
    """One bulk request of `create` actions; the answer for each: `status`, and `error` if there is one.

    Raises:
        elasticsearch.ApiError: an answer that is not 2xx.
        elasticsearch.TransportError: no answer.
        StrangeAnswerError: an answer with 2xx that is not a bulk answer.
    """
    answer = client.perform_request(
        "POST",
        "/_bulk",
        params={"filter_path": "items.create.status,items.create.error"},
        headers={"accept": JSON, "content-type": NDJSON},
        body=lines,
    ).body
    try:
        return [item["create"] for item in answer["items"]]
    except (KeyError, TypeError) as error:
        raise StrangeAnswerError(f"an answer without items: {answer!r:.200}") from error
