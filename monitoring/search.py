"""The search node: client, templates, and the ids in the index. For Elasticsearch 8 and 9 and the embedded node.

Calls go through the client's low-level transport: its helpers would decode and encode every document once more.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from importlib import resources
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

import msgspec
from elastic_transport import ApiResponse
from elasticsearch import ApiError, ConnectionTimeout, Elasticsearch

from machine_learning_engineering.settings import Settings
from monitoring.documents import FAMILIES, INDEX_PATTERN
from monitoring.documents.common import daily_index

_JSON = "application/vnd.elasticsearch+json; compatible-with=8"
_NDJSON = "application/vnd.elasticsearch+x-ndjson; compatible-with=8"
_SETTINGS_TEMPLATE = "inflight-settings"
_PAGE = 10_000
STOP_SECONDS = 5.0
"""So long a process that is to end waits for the search node."""
SHARD_SECONDS = 30.0
"""So long an audit waits for a shard that is away."""
_LOOK_SECONDS = 0.2


class StrangeAnswerError(Exception):
    """An answer that says success and is not one of a search node: a proxy or another service is in between."""


class StoppableClient(Elasticsearch):
    """A client whose requests end soon when the process is to end, whatever the search node does.

    Once `stopping` is set, all requests together have `STOP_SECONDS`. One that is given up may have been carried out.
    """

    stopping: threading.Event
    _until: float | None = None

    def perform_request(self, *arguments: Any, **named: Any) -> ApiResponse[Any]:
        """As in `Elasticsearch`. Nothing ends a read from a socket: so it is another thread that waits for the answer.

        Raises:
            elasticsearch.ConnectionTimeout: besides what it means there, the process is to end.
        """
        answers: SimpleQueue[ApiResponse[Any] | BaseException] = SimpleQueue()

        def ask() -> None:
            try:
                answers.put(super(StoppableClient, self).perform_request(*arguments, **named))
            except BaseException as error:
                answers.put(error)

        threading.Thread(target=ask, name="inflight-search", daemon=True).start()
        while True:
            try:
                answer = answers.get(timeout=_LOOK_SECONDS)
            except Empty:
                if self.stopping.is_set():
                    self._until = self._until or monotonic() + STOP_SECONDS
                    if monotonic() > self._until:
                        raise ConnectionTimeout("given up, since the process is to end") from None
                continue
            if isinstance(answer, BaseException):
                raise answer
            return answer


def connect(settings: Settings, timeout: float = 30.0, stopping: threading.Event | None = None) -> Elasticsearch:
    """A client that tries each request once: who calls decides what is tried again.

    Args:
        stopping: see `StoppableClient`; without it, a request that hangs is waited for until its time-out.
    """
    client = (Elasticsearch if stopping is None else StoppableClient)(
        settings.elasticsearch_url,
        api_key=settings.elasticsearch_api_key,
        request_timeout=timeout,
        max_retries=0,
        retry_on_timeout=False,
    )
    if isinstance(client, StoppableClient):
        assert stopping is not None
        client.stopping = stopping
    return client


def call(client: Elasticsearch, method: str, path: str, body: Any = None, **params: str) -> Any:
    """One request with a JSON body; the decoded answer.

    Raises:
        elasticsearch.ApiError: an answer that is not 2xx.
        elasticsearch.TransportError: no answer.
    """
    headers = {"accept": _JSON} if body is None else {"accept": _JSON, "content-type": _JSON}
    return client.perform_request(method, path, params=params or None, headers=headers, body=body).body


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
        headers={"accept": _JSON, "content-type": _NDJSON},
        body=lines,
    ).body
    try:
        return [item["create"] for item in answer["items"]]
    except (KeyError, TypeError) as error:
        raise StrangeAnswerError(f"an answer without items: {answer!r:.200}") from error


def fingerprints(client: Elasticsearch, wanted: list[dict[str, str]]) -> list[str | None]:
    """The fingerprint of each document named by `_index` and `_id`; None where there is no such document (any more).

    A document without a fingerprint, which this product did not write, has the empty one. Raises as `bulk` does.
    """
    answer = call(client, "POST", "/_mget", {"docs": wanted}, _source="inference.fingerprint")
    try:
        found = [
            doc["_source"].get("inference", {}).get("fingerprint", "") if doc.get("found") else None
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


def delete(client: Elasticsearch, addresses: Sequence[tuple[str, str]]) -> None:
    """Delete documents, named by index and id, in one request. Raises as `bulk` does."""
    lines = [b'{"delete":{"_index":%b,"_id":%b}}' % tuple(map(msgspec.json.encode, one)) for one in addresses]
    headers = {"accept": _JSON, "content-type": _NDJSON}
    answer = client.perform_request("POST", "/_bulk", headers=headers, body=b"\n".join([*lines, b""])).body
    try:
        failed = [item["delete"] for item in answer["items"] if item["delete"]["status"] not in (200, 404)]
    except (KeyError, TypeError) as error:
        raise StrangeAnswerError(f"an answer without items: {answer!r:.200}") from error
    if failed:
        raise StrangeAnswerError(f"{len(failed)} documents were not deleted: {failed[0]!r:.200}")


def quoted(part: str) -> str:
    """A name as one part of a path."""
    return quote(part, safe="")


def index_names(client: Elasticsearch, pattern: str) -> list[str]:
    """The names of the indices that a pattern matches, in order. Raises as `call` does."""
    return sorted(call(client, "GET", f"/{pattern}/_settings", filter_path="*.settings.index.uuid"))


def put_templates(client: Elasticsearch, settings: Settings) -> None:
    """Create or update the templates of all families; they apply to indices that are created afterwards."""
    folder = resources.files("monitoring") / "elasticsearch"
    for kind, endpoint in (("component", "/_component_template/"), ("index", "/_index_template/")):
        for file in sorted(folder.iterdir(), key=lambda file: file.name):
            if not file.name.startswith(kind + "-"):
                continue
            name = file.name.removeprefix(kind + "-").removesuffix(".json")
            template = msgspec.json.decode(file.read_bytes())
            if name == _SETTINGS_TEMPLATE:
                template["template"]["settings"]["index"]["number_of_replicas"] = settings.elasticsearch_replicas
            call(client, "PUT", endpoint + name, template)


def create_first_indices(client: Elasticsearch, now: datetime) -> None:
    """An empty index of today for each family that has none: ES|QL refuses a query whose pattern matches no index."""
    for family in FAMILIES:
        if index_names(client, f"inference-{family}-*"):
            continue
        try:
            call(client, "PUT", "/" + daily_index(family, now))
        except ApiError as error:
            # Another indexer, or the first document, was quicker.
            if "resource_already_exists" not in str(error):
                raise


def once_it_is_up(ask: Callable[[], Any]) -> Any:
    """The answer, asked again for a while where a shard is away: an index that was just made has none for a moment."""
    deadline = monotonic() + SHARD_SECONDS
    while True:
        try:
            return ask()
        except ApiError as error:
            if error.meta.status != 503 or monotonic() > deadline:
                raise
        sleep(_LOOK_SECONDS)


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
            "sort": [{"inference.request_id": "asc"}],
            "query": {"prefix": {"inference.request_id": prefix}} if prefix else {"match_all": {}},
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
