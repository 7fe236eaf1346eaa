"""Searches, and reading many documents."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

from elasticsearch import Elasticsearch

from monitoring.documents.log import INDEX_PATTERN
from monitoring.elastic.client import UnexpectedResponse, index_names, request, retry_while_unavailable

_PAGE = 10_000

Hit = dict[str, Any]


def search(client: Elasticsearch, index: str, body: dict[str, Any]) -> dict[str, Any]:
    """The response to one search, of all shards or of none. Raises as `bulk` does."""
    response: dict[str, Any] = request(client, "POST", f"/{index}/_search", body, allow_partial_search_results="false")
    try:
        if response["timed_out"] or response["_shards"]["failed"]:
            raise UnexpectedResponse(f"a search response of some shards only: {response['_shards']!r:.200}")
        if not all(isinstance(hit, dict) for hit in response["hits"]["hits"]):
            raise TypeError("hits")
    except (KeyError, TypeError) as error:
        raise UnexpectedResponse(f"a search response without hits: {response!r:.200}") from error
    return response


def hits(client: Elasticsearch, index: str, body: dict[str, Any]) -> list[Hit]:
    """The hits of one search. Raises as `bulk` does."""
    found: list[Hit] = search(client, index, body)["hits"]["hits"]
    return found


def pages(read: Callable[[dict[str, Any]], list[Hit]], body: dict[str, Any]) -> Iterator[Hit]:
    """All hits of a search, page by page; its `sort` has to be a complete order, or hits are skipped.

    Args:
        read: executes one search.
        body: of the search; `size` is that of a page.
    """
    while True:
        found = read(body)
        yield from found
        if len(found) < body["size"]:
            return
        body = {**body, "search_after": found[-1]["sort"]}


def documents(client: Elasticsearch, wanted: Sequence[tuple[str, str]], fields: Sequence[str] = ()) -> list[Hit | None]:
    """Documents by index and id; None for each that does not exist. Raises as `bulk` does.

    Args:
        fields: the ones to read; all if it is empty.
    """
    if not wanted:
        return []
    docs = [{"_index": index, "_id": identity} for index, identity in wanted]
    only = {"_source": ",".join(fields)} if fields else {}
    response = request(client, "POST", "/_mget", {"docs": docs}, **only)
    try:
        found = [doc if doc.get("found") else None for doc in response["docs"]]
        if len(found) == len(docs):
            return found
        raise KeyError("docs")
    except (KeyError, TypeError, AttributeError) as error:
        raise UnexpectedResponse(f"a response without all docs: {response!r:.200}") from error


class StoredRequest(NamedTuple):
    """What decides between a document of `inference-logs-*` and another one of the same id.

    `label` are the fields of its label. A document without a fingerprint was not written by Inflight; its fingerprint
    is the empty string.
    """

    fingerprint: str
    outcome: str
    label: dict[str, Any]
    seq_no: int
    primary_term: int


def stored_requests(client: Elasticsearch, wanted: Sequence[tuple[str, str]]) -> list[StoredRequest | None]:
    """The documents by index and id; None for each that does not exist (any more). Raises as `bulk` does."""
    found = documents(client, wanted, ["inflight.fingerprint", "inflight.outcome", "inflight.label*"])
    try:
        return [None if doc is None else _stored(doc) for doc in found]
    except (KeyError, AttributeError, TypeError) as error:
        raise UnexpectedResponse("a response with docs that have no fields") from error


def _stored(doc: Hit) -> StoredRequest:
    fields = doc["_source"].get("inflight", {})
    label = {name: value for name, value in fields.items() if name.startswith("label")}
    return StoredRequest(
        fields.get("fingerprint", ""),
        fields.get("outcome", ""),
        label,
        doc.get("_seq_no", -1),
        doc.get("_primary_term", -1),
    )


def indexed_ids(client: Elasticsearch, prefix: str = "") -> Iterator[str]:
    """The request id of every document in `inference-logs-*`, once per document, after a refresh.

    Args:
        prefix: only ids that start with it.

    Raises:
        elasticsearch.ApiError: also if a shard is unavailable: its documents would look as if never indexed.
    """
    request(client, "POST", f"/{INDEX_PATTERN}/_refresh")
    only = {"filter_path": "hits.hits.sort", "allow_partial_search_results": "false"}
    # The request id is unique within one index, so it alone is a complete order there.
    body: dict[str, Any] = {
        "size": _PAGE,
        "_source": False,
        "track_total_hits": False,
        "sort": [{"inflight.request_id": "asc"}],
        "query": {"prefix": {"inflight.request_id": prefix}} if prefix else {"match_all": {}},
    }
    for index in index_names(client, INDEX_PATTERN):

        def read(body: dict[str, Any], index: str = index) -> list[Hit]:
            response = retry_while_unavailable(lambda: request(client, "POST", f"/{index}/_search", body, **only))
            try:
                found = response.get("hits", {}).get("hits", [])
                # Each page begins behind the last hit of the one before.
                if all(isinstance(hit["sort"][0], str) for hit in found):
                    return list(found)
                raise TypeError("sort")
            except (KeyError, IndexError, TypeError, AttributeError) as error:
                raise UnexpectedResponse(f"a search response without ids: {response!r:.200}") from error

        for hit in pages(read, body):
            yield hit["sort"][0]
