"""The stream as the gateway sees it: what is published, what is known of it, and how to wait for a result."""

import asyncio
from collections.abc import Sequence
from typing import NamedTuple, Protocol

from producers.gateway.recall import Entry

Headers = list[tuple[str, bytes]]


class NotAccepted(Exception):
    """The broker has not acknowledged a record in time, or rejected it.

    `indeterminate` tells whether it may be on the topic nevertheless.
    """

    def __init__(self, reason: str, *, indeterminate: bool) -> None:
        super().__init__(reason)
        self.indeterminate = indeterminate


class NewRequest(NamedTuple):
    """A request to publish. `key` is the record key; `fingerprint` is described in `events.headers.FINGERPRINT`."""

    request_id: str
    key: bytes
    value: bytes
    fingerprint: str
    headers: Headers


class Stream(Protocol):
    """Publishes requests and labels, and knows the requests of all gateways. Belongs to the event loop."""

    @property
    def problem(self) -> str:
        """Why the stream can't be used yet; empty if it can: all positions are known, and it is read to its end."""

    def known(self, request_id: str) -> Entry | None:
        """What is known of a request."""

    def claim(self, request_id: str, model: str, fingerprint: str) -> "asyncio.Future[Entry]":
        """Note a request that is about to be published; return what its result will be set to."""

    def release(self, request_id: str, future: "asyncio.Future[Entry]", *, published: bool) -> None:
        """Nobody waits for this future any more; see `Recall.release`."""

    async def publish(self, requests: Sequence[NewRequest]) -> list[NotAccepted | None]:
        """Publish requests; return for each why the broker did not acknowledge it, or None."""

    async def publish_label(self, key: bytes, value: bytes) -> None:
        """Publish a label.

        Raises:
            NotAccepted: the broker did not acknowledge it.
        """

    async def read_result(self, entry: Entry) -> bytes | None:
        """The result of a request that has one; None if the topic does not hold it any more."""


class StoredPrediction(NamedTuple):
    """An outcome of the prediction log. `fingerprint` is None if features are redacted: nothing can be compared."""

    request_id: str
    model: str
    fingerprint: str | None
    result: bytes
    """As on the topic of results."""


class HistoryUnavailable(Exception):
    """The prediction log does not respond."""


class History(Protocol):
    """The prediction log: outcomes that are older than what the stream knows."""

    async def find(self, request_ids: Sequence[str]) -> dict[str, StoredPrediction]:
        """The outcomes of requests, by id.

        Raises:
            HistoryUnavailable: the log does not respond.
        """


class NoHistory:
    """A `History` that knows nothing: for a deployment without Elasticsearch."""

    async def find(self, request_ids: Sequence[str]) -> dict[str, StoredPrediction]:
        """Find nothing."""
        return {}
