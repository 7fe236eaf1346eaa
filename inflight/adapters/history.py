"""The outcomes that a gateway's stream has forgotten, from Elasticsearch, which `producers` does not speak to."""

import asyncio
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import Error, PredictionCompleted, PredictionFailed
from monitoring.documents.log import INDEX_PATTERN, document_id, index_name
from monitoring.elastic.client import FAILURES, connect
from monitoring.elastic.scan import documents, hits
from monitoring.settings import ElasticsearchSettings
from producers.gateway.stream import HistoryUnavailable, StoredPrediction

SECONDS = 2.0
"""Maximum time of one search."""
_THREADS = 8
MAX_FAILURES = 3
"""Failed searches in a row, after which requests no longer wait for one."""
PAUSE_SECONDS = 5.0
"""Seconds between two searches that check whether Elasticsearch is back, meanwhile."""


class IndexHistory:
    """`inference-logs-*` as a `History`.

    Args:
        settings: access to Elasticsearch. Nothing is sent before the first call.
    """

    def __init__(self, settings: ElasticsearchSettings) -> None:
        self._settings = settings
        self._client: Any = None
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="inflight-history")
        self._failures = 0
        self._paused_until = 0.0

    async def find(self, request_ids: Sequence[str]) -> dict[str, StoredPrediction]:
        """See `History.find`. Of an Elasticsearch that keeps failing, it says so at once."""
        now = time.monotonic()
        if self._failures >= MAX_FAILURES:
            if now < self._paused_until:
                raise HistoryUnavailable("Elasticsearch did not respond in time before")
            self._paused_until = now + PAUSE_SECONDS
        try:
            found = await asyncio.get_running_loop().run_in_executor(self._threads, self._find, list(request_ids))
        except HistoryUnavailable:
            self._failures += 1
            self._paused_until = time.monotonic() + PAUSE_SECONDS
            raise
        self._failures = 0
        return found

    def _find(self, request_ids: list[str]) -> dict[str, StoredPrediction]:
        identities = {document_id(one): one for one in request_ids}
        now = datetime.now(UTC)
        try:
            client = self._connected()
            query = {"query": {"ids": {"values": list(identities)}}, "size": len(identities), "sort": ["@timestamp"]}
            found = [hit["_source"] for hit in hits(client, INDEX_PATTERN, query)]
            if len(found) < len(identities):
                # A search sees a document some seconds after it was indexed; a read by its id sees it at once.
                days = {index_name(now), index_name(now - timedelta(days=1))}
                read = documents(client, [(day, one) for day in sorted(days) for one in identities])
                found += [one["_source"] for one in read if one is not None]
            stored: dict[str, StoredPrediction] = {}
            for source in found:
                one = _stored(source)
                # The same id on another day: the first one counts.
                if one.request_id in request_ids:
                    stored.setdefault(one.request_id, one)
            return stored
        except (*FAILURES, AttributeError, KeyError, RecursionError, TypeError, ValueError) as error:
            raise HistoryUnavailable(f"Elasticsearch did not respond as expected ({type(error).__name__})") from None

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                self._client = connect(self._settings, timeout=SECONDS)
            return self._client


def _stored(source: dict[str, Any]) -> StoredPrediction:
    """The outcome in a document, as it is on the topic of results."""
    fields = source["inflight"]
    model, request_id = fields["model"]["name"], fields["request_id"]
    requested_at, completed_at = (datetime.fromisoformat(fields[name]) for name in ("requested_at", "completed_at"))
    version = fields["model"].get("version", "")
    if fields["outcome"] == "completed":
        text = fields.get("prediction_text")
        prediction = text.encode() if text is not None else msgspec.json.encode(fields["prediction"])
        result: Any = PredictionCompleted(
            request_id, model, version, msgspec.Raw(prediction), requested_at, completed_at
        )
    else:
        error = Error(source["error"]["type"], source["error"]["message"])
        result = PredictionFailed(request_id, model, error, requested_at, completed_at, version or msgspec.UNSET)
    encoded = events.encode(result)
    # A document that others have written may have any types.
    events.decode_result(encoded)
    fingerprint = None if fields.get("redacted") else str(fields["fingerprint"])
    return StoredPrediction(request_id, model, fingerprint, encoded)
