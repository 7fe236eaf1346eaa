"""The search node: client, templates, and the ids in the index. For Elasticsearch 8 and 9 and the embedded node.

Calls go through the client's low-level transport: its helpers would decode and encode every document once more.
"""

import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

import msgspec
from elastic_transport import ApiResponse
from elasticsearch import ApiError, ConnectionTimeout, Elasticsearch

from monitoring.settings import ElasticsearchSettings

JSON = "application/vnd.elasticsearch+json; compatible-with=8"
NDJSON = "application/vnd.elasticsearch+x-ndjson; compatible-with=8"
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


def connect(settings: ElasticsearchSettings, timeout: float = 30.0, stopping: threading.Event | None = None) -> Elasticsearch:
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
    headers = {"accept": JSON} if body is None else {"accept": JSON, "content-type": JSON}
    return client.perform_request(method, path, params=params or None, headers=headers, body=body).body


def delete(client: Elasticsearch, addresses: Sequence[tuple[str, str]]) -> None:
    """Delete documents, named by index and id, in one request. Raises as `bulk` does."""
    lines = [b'{"delete":{"_index":%b,"_id":%b}}' % tuple(map(msgspec.json.encode, one)) for one in addresses]
    headers = {"accept": JSON, "content-type": NDJSON}
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
