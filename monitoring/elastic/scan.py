"""Reading many documents."""

from collections.abc import Iterator
from typing import Any

from elasticsearch import Elasticsearch

from monitoring.documents.log import INDEX_PATTERN
from monitoring.elastic.client import StrangeAnswerError, call, index_names, once_it_is_up

_PAGE = 10_000


def fingerprints(client: Elasticsearch, wanted: list[dict[str, str]]) -> list[str | None]:
    """The fingerprint of each document named by `_index` and `_id`; None where there is no such document (any more).

    A document without a fingerprint, which this product did not write, has the empty one. Raises as `bulk` does.
    """
    answer = call(client, "POST", "/_mget", {"docs": wanted}, _source="inflight.fingerprint")
    try:
        found = [
            doc["_source"].get("inflight", {}).get("fingerprint", "") if doc.get("found") else None
            for doc in answer["docs"]
        ]
        if len(found) == len(wanted):
            return found
        raise KeyError("docs")
    except (KeyError, TypeError, AttributeError) as error:
        raise StrangeAnswerError(f"an answer without docs: {answer!r:.200}") from error


def hits(client: Elasticsearch, index: str, body: dict[str, Any]) -> list[dict[str, Any]]:
    """The hits of one search, of all shards or of none. Raises as `bulk` does."""
    answer = call(client, "POST", f"/{index}/_search", body, allow_partial_search_results="false")
    try:
        if answer["timed_out"] or answer["_shards"]["failed"]:
            raise StrangeAnswerError(f"an answer of some shards only: {answer['_shards']!r:.200}")
        return list(answer["hits"]["hits"])
    except (KeyError, TypeError) as error:
        raise StrangeAnswerError(f"an answer without hits: {answer!r:.200}") from error


def indexed_ids(client: Elasticsearch, prefix: str = "") -> Iterator[str]:
    """The request id of every document in `inference-logs-*`, once for each document, after a refresh.

    Args:
        prefix: only ids that start with it.

    Raises:
        elasticsearch.ApiError: also where a shard is away: its documents would look as if they had never been indexed.
    """
    call(client, "POST", f"/{INDEX_PATTERN}/_refresh")
    # Within one index the request id is unique, so it alone is a complete sort order, and no page can skip a document.
    for index in index_names(client, INDEX_PATTERN):
        search: dict[str, Any] = {
            "size": _PAGE,
            "_source": False,
            "track_total_hits": False,
            "sort": [{"inflight.request_id": "asc"}],
            "query": {"prefix": {"inflight.request_id": prefix}} if prefix else {"match_all": {}},
        }
        while True:
            only = {"filter_path": "hits.hits.sort", "allow_partial_search_results": "false"}
            answer = once_it_is_up(lambda: call(client, "POST", f"/{index}/_search", search, **only))  # noqa: B023
            hits = answer.get("hits", {}).get("hits", [])
            for hit in hits:
                yield hit["sort"][0]
            if len(hits) < _PAGE:
                break
            search["search_after"] = hits[-1]["sort"]
