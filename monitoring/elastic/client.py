"""Client for Elasticsearch 8 and 9 and the embedded node.

Requests use the client's low-level transport: its helpers would decode and encode every document once more.
"""

import ssl
import threading
from collections.abc import Callable
from pathlib import Path
from queue import Empty, SimpleQueue
from time import monotonic, sleep
from typing import Any
from urllib.parse import quote

from elastic_transport import ApiResponse
from elasticsearch import ApiError, ConnectionTimeout, Elasticsearch, TransportError
from pydantic import SecretStr

from monitoring.settings import ElasticsearchSettings

JSON = "application/vnd.elasticsearch+json; compatible-with=8"
NDJSON = "application/vnd.elasticsearch+x-ndjson; compatible-with=8"
STOP_SECONDS = 5.0
"""Time that all requests together have left once the process stops."""
SHARD_SECONDS = 30.0
"""Maximum time that a read waits for an unavailable shard."""
_POLL_SECONDS = 0.2


class UnexpectedResponse(Exception):
    """A 2xx response that Elasticsearch would not send: there is a proxy or another service in between."""


FAILURES = (ApiError, TransportError, UnexpectedResponse)
"""What a request raises: an error status, no response, or an unexpected one."""


class StoppableClient(Elasticsearch):
    """A client whose requests end soon once the process stops, whatever Elasticsearch does.

    Once `stopping` is set, all requests together have `STOP_SECONDS`. An abandoned one may still have been executed.
    """

    stopping: threading.Event
    _deadline: float | None = None

    def perform_request(self, *arguments: Any, **named: Any) -> ApiResponse[Any]:
        """As in `Elasticsearch`. A read from a socket can't be interrupted, so another thread waits for the response.

        Raises:
            elasticsearch.ConnectionTimeout: also if the process stops.
        """
        responses: SimpleQueue[ApiResponse[Any] | BaseException] = SimpleQueue()

        def perform() -> None:
            try:
                responses.put(super(StoppableClient, self).perform_request(*arguments, **named))
            except BaseException as error:
                responses.put(error)

        threading.Thread(target=perform, name="inflight-elasticsearch", daemon=True).start()
        while True:
            try:
                response = responses.get(timeout=_POLL_SECONDS)
            except Empty:
                if self.stopping.is_set():
                    self._deadline = self._deadline or monotonic() + STOP_SECONDS
                    if monotonic() > self._deadline:
                        raise ConnectionTimeout("abandoned because the process stops") from None
                continue
            if isinstance(response, BaseException):
                raise response
            return response


def access(url: str, api_key: SecretStr | None, ca_certs: Path | None) -> dict[str, Any]:
    """The client's options for an API key and for a private certificate authority.

    Raises:
        ValueError: the file of certificates holds none.
    """
    options: dict[str, Any] = {"api_key": api_key.get_secret_value() if api_key else None}
    if ca_certs is not None and url.lower().startswith("https:"):
        options["ssl_context"] = tls_context(ca_certs)
    return options


def tls_context(ca_certs: Path) -> ssl.SSLContext:
    """A context that trusts the authorities in this PEM file and no other.

    Raises:
        ValueError: the file holds no certificate.
    """
    try:
        return ssl.create_default_context(cafile=ca_certs)
    except OSError as error:
        raise ValueError(
            f"{ca_certs} has no certificates in PEM form ({error}): correct the CA_CERTS setting"
        ) from None


def connect(
    settings: ElasticsearchSettings, timeout: float = 30.0, stopping: threading.Event | None = None
) -> Elasticsearch:
    """A client that sends each request once: the caller decides about retries.

    Args:
        timeout: of each request, in seconds.
        stopping: makes a `StoppableClient`; without it, a request that hangs blocks until its timeout.

    Raises:
        ValueError: the URL is none, or the file of certificates holds none.
    """
    client = (Elasticsearch if stopping is None else StoppableClient)(
        settings.elasticsearch_url,
        **access(settings.elasticsearch_url, settings.elasticsearch_api_key, settings.elasticsearch_ca_certs),
        request_timeout=timeout,
        max_retries=0,
        retry_on_timeout=False,
    )
    if isinstance(client, StoppableClient):
        assert stopping is not None
        client.stopping = stopping
    return client


def request(client: Elasticsearch, method: str, path: str, body: Any = None, **params: str) -> Any:
    """Send one request with a JSON body; return the decoded response.

    Raises:
        elasticsearch.ApiError: the status is not 2xx.
        elasticsearch.TransportError: there is no response.
    """
    headers = {"accept": JSON} if body is None else {"accept": JSON, "content-type": JSON}
    return client.perform_request(method, path, params=params or None, headers=headers, body=body).body


def quote_path(part: str) -> str:
    """A name, quoted as one segment of a path."""
    return quote(part, safe="")


def index_names(client: Elasticsearch, pattern: str, states: str = "open") -> list[str]:
    """Names of the indices that match a pattern, sorted. Raises as `request` does.

    Args:
        states: "open", or "all": closed and hidden ones too.
    """
    # Not their settings: one index whose metadata is blocked would hide all others.
    found = request(client, "GET", f"/_resolve/index/{pattern}", expand_wildcards=states)
    try:
        return sorted(index["name"] for index in found["indices"])
    except (KeyError, TypeError) as error:
        raise UnexpectedResponse(f"a response without indices: {found!r:.200}") from error


def elasticsearch_error(error: ApiError) -> dict[str, Any] | None:
    """The error object of a response; None if it has none: then a proxy answers, or another service."""
    found = error.body.get("error") if isinstance(error.body, dict) else None
    return found if isinstance(found, dict) and isinstance(found.get("type"), str) else None


def count_shards(client: Elasticsearch) -> tuple[int, int]:
    """Open shards of the cluster, and how many it takes. Beyond, it makes no index. Raises as `request` does."""
    health = request(client, "GET", "/_cluster/health")
    settings = request(client, "GET", "/_cluster/settings", include_defaults="true")
    try:
        shards = health["active_shards"] + health["initializing_shards"] + health["unassigned_shards"]
        # The first that says it; a cluster without any of these has the default.
        known = [settings.get(kind, {}).get("cluster", {}) for kind in ("transient", "persistent", "defaults")]
        a_node = next((int(one["max_shards_per_node"]) for one in known if "max_shards_per_node" in one), 1_000)
        return int(shards), a_node * int(health["number_of_data_nodes"])
    except (KeyError, TypeError, AttributeError, ValueError, OverflowError) as error:
        raise UnexpectedResponse(f"a response without shards: {health!r:.200}") from error


def retry_while_unavailable(read: Callable[[], Any]) -> Any:
    """Repeat a read while the status is 503, for `SHARD_SECONDS`: a new index has no active shard for a moment."""
    deadline = monotonic() + SHARD_SECONDS
    while True:
        try:
            return read()
        except ApiError as error:
            if error.meta.status != 503 or monotonic() > deadline:
                raise
        sleep(_POLL_SECONDS)
