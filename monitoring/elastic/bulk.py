"""Bulk requests: actions, their results, and what may be told of an error."""

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, TypeVar

import msgspec
from elasticsearch import ConnectionTimeout, Elasticsearch

from machine_learning_engineering.core.validation import safe_field_path
from monitoring.elastic.client import JSON, NDJSON, UnexpectedResponse

_T = TypeVar("_T")
# Messages of Elasticsearch may quote personal data: values, their first bytes, whole lines. Only the field name and
# a limit are taken from them.
_FIELD = re.compile(r"\b(?:field|mapping for|field=)\s*[\[\"]([^\]\"]*)[\]\"]")
_LIMIT = re.compile(r"Limit of [a-z ]+\[\d+\] has been exceeded")
_MAX_REASON = 2_000
# These concern an index, the cluster or the client, so their reasons quote no document.
_STATES = frozenset(
    {
        "circuit_breaking_exception",
        "cluster_block_exception",
        "index_closed_exception",
        "index_not_found_exception",
        "master_not_discovered_exception",
        "no_shard_available_action_exception",
        "process_cluster_event_timeout_exception",
        "security_exception",
        "validation_exception",
    }
)


class BulkItem(NamedTuple):
    """Result of one action: HTTP status, and Elasticsearch's error object if there is one."""

    status: int
    error: dict[str, Any] | None = None

    @property
    def error_type(self) -> str:
        """Elasticsearch's name of the error; empty if there is none."""
        return str((self.error or {}).get("type", ""))


def action(kind: str, index: str, identity: str, **conditions: int) -> bytes:
    """The first line of an action: `kind` is create, update or delete."""
    return msgspec.json.encode({kind: {"_index": index, "_id": identity, **conditions}})


def bulk(client: Elasticsearch, actions: Sequence[bytes]) -> list[BulkItem]:
    """Execute actions in one request and return the result of each, in order.

    Args:
        actions: the line of each action, followed by a line break and its document if it has one.

    Raises:
        elasticsearch.ApiError: the status is not 2xx.
        elasticsearch.TransportError: there is no response.
        UnexpectedResponse: the response is 2xx, but does not hold a result for each action.
    """
    body = client.perform_request(
        "POST",
        "/_bulk",
        params={"filter_path": "items.*.status,items.*.error"},
        headers={"accept": JSON, "content-type": NDJSON},
        body=b"\n".join([*actions, b""]),
    ).body
    try:
        items = [item for entry in body["items"] for item in entry.values()]
        if len(items) != len(actions):
            raise KeyError("items")
        # Checked: the status decides what becomes of a record.
        return msgspec.convert([(item["status"], item.get("error")) for item in items], list[BulkItem])
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        raise UnexpectedResponse(f"a bulk response without all items: {body!r:.200}") from error


class BulkSender:
    """Sends actions in requests that Elasticsearch can execute in time. Several threads may share it.

    After a request that timed out, the next ones have half the size; after one in time, twice, up to `max_bytes`. So a
    caller who repeats what failed comes through. Methods raise as `bulk` does.
    """

    def __init__(self, client: Elasticsearch, max_bytes: int) -> None:
        self._client = client
        self._max_bytes = self._bytes = max_bytes

    def send(self, actions: Sequence[bytes]) -> list[BulkItem]:
        """Execute actions and return the result of each, in order."""
        results: list[BulkItem] = []
        for chunk in chunks(actions, self._bytes, len):
            size = sum(map(len, chunk))
            try:
                results += bulk(self._client, chunk)
            except ConnectionTimeout:
                self._bytes = max(1, min(self._bytes, size) // 2)
                raise
            self._bytes = min(2 * self._bytes, self._max_bytes)
        return results

    def delete(self, documents: Sequence[tuple[str, str]]) -> list[bool]:
        """Delete documents, named by index and id; False for each that did not exist."""
        results = self.send([action("delete", *document) for document in documents])
        if failed := [item for item in results if item.status not in (200, 404)]:
            raise UnexpectedResponse(f"{len(failed)} documents were not deleted: {failed[0]!r:.200}")
        return [item.status == 200 for item in results]


def chunks(
    items: Sequence[_T], max_bytes: int, size: Callable[[_T], int], max_items: int | None = None
) -> Iterator[list[_T]]:
    """Consecutive parts of at most `max_bytes` and `max_items`, or of a single item that is larger."""
    chunk: list[_T] = []
    total = 0
    for item in items:
        if chunk and (total + size(item) > max_bytes or len(chunk) == max_items):
            yield chunk
            chunk, total = [], 0
        chunk.append(item)
        total += size(item)
    if chunk:
        yield chunk


def describe_error(error: Any) -> str:
    """Why Elasticsearch rejected a document, from the `error` of a response, without quoting the document."""
    if not isinstance(error, dict):
        return "Elasticsearch rejected the document"
    # Cut first: the reason may quote a megabyte.
    reason, cause = str(error.get("reason"))[:_MAX_REASON], error.get("caused_by")
    parts = [safe_field_path(str(error.get("type")))]
    if field := _FIELD.search(reason):
        parts.append(f"field {safe_field_path(field[1])}")
    if limit := _LIMIT.search(reason):
        parts.append(limit[0])
    if isinstance(cause, dict) and "type" in cause:
        parts.append(safe_field_path(str(cause["type"])))
    return f"Elasticsearch rejected the document: {'; '.join(parts)}"


def describe_refusal(error: Any) -> str:
    """Why Elasticsearch refuses a request or an item for now, from the `error` of a response; empty if unknown."""
    if not isinstance(error, dict):
        return ""
    kind = safe_field_path(str(error.get("type"))[:_MAX_REASON])
    return f"{kind}: {str(error.get('reason'))[:300]}" if kind in _STATES else kind
