"""Delivery of a batch to Elasticsearch: every entry is accounted for, or the batch is cancelled."""

import threading
from collections import Counter
from typing import Any

from elasticsearch import ApiError, Elasticsearch, TransportError

from machine_learning_engineering.dead_letters.writer import CONFLICT, REJECTED, DeadLetterWriter, RejectedRecord
from monitoring.elastic import scan
from monitoring.elastic.bulk import bulk, describe_error
from monitoring.elastic.client import FAILURES, UnexpectedResponse
from monitoring.indexer.batch import Batch
from monitoring.indexer.metrics import CREATED, REPLAYED, IndexerMetrics
from monitoring.indexer.projections import Entry
from monitoring.runtime.retry import Backoff, error_label
from monitoring.settings import IndexerSettings

_CONFLICT = "this request id was used before with another model or other features; the first one is indexed"
# These errors have status 400, but concern the index or the cluster and not the document: they are temporary.
_CLUSTER_ERRORS = {
    "index_closed_exception",
    "validation_exception",
    "index_creation_exception",
    "process_cluster_event_timeout_exception",
}

Tally = Counter[tuple[str, str]]
"""Number of documents of a batch by topic and result."""


class Delivery:
    """Sends batches; several threads may share it.

    Failures are permanent or temporary. Permanent: Elasticsearch rejects the document itself (an item with status 400),
    or it is too large for the server on its own; its record becomes a dead letter. Everything else (429, 5xx, no
    connection, access denied, a missing or blocked index) is a state of the server, and is retried for ever.
    """

    def __init__(self, settings: IndexerSettings, client: Elasticsearch, metrics: IndexerMetrics) -> None:
        self._client = client
        self._writer = DeadLetterWriter(settings)
        self._bulk_seconds = metrics.bulk
        self._backoff = Backoff("indexer", metrics.retries)

    def deliver(self, batch: Batch, cancelled: threading.Event) -> Tally | None:
        """Index every entry of a batch, or make its record a dead letter; None if cancelled before the end.

        Raises:
            KafkaException: the broker permanently rejects a dead letter.
        """
        result = _BatchResult()
        for dead_letter in batch.dead_letters:
            result.add_dead_letter(dead_letter)
        if not self._index([batch.entries] if batch.entries else [], result, cancelled):
            return None
        for earlier in batch.after:
            while not earlier.settled.wait(0.05):
                if cancelled.is_set():
                    return None
        if batch.deferred and not self._index_deferred(batch.deferred, result, cancelled):
            return None
        if not self._writer.write(result.dead_letters, cancelled):
            return None
        return result.tally

    def _index(self, waiting: list[list[Entry]], result: "_BatchResult", cancelled: threading.Event) -> bool:
        """Send chunks, the last one first, until all of their entries are accounted for; False if cancelled."""
        attempt = 0
        while waiting:
            if cancelled.is_set():
                return False
            chunk = waiting.pop()
            try:
                again = self._send(chunk, result)
            except ApiError as error:
                status = error.meta.status
                if status not in (400, 413):
                    again, cause = chunk, str(status)
                elif len(chunk) > 1:
                    # The request is too large, or one entry spoils it: send its halves.
                    self._backoff.count(str(status))
                    middle = len(chunk) // 2
                    waiting += (chunk[middle:], chunk[:middle])
                    continue
                else:
                    result.reject(chunk[0], REJECTED, f"status {status}: {describe_error(_error_of(error.body))}")
                    continue
            except (TransportError, UnexpectedResponse) as error:
                again, cause = chunk, error_label(error)
            else:
                cause = result.cause
            if len(again) < len(chunk):
                attempt = 0
            if again:
                waiting.append(again)
                cancelled.wait(self._backoff.next(attempt, cause, entries=len(again)))
                attempt += 1
        return True

    def _index_deferred(self, deferred: list[Entry], result: "_BatchResult", cancelled: threading.Event) -> bool:
        """Settle entries whose documents another entry was to create; False if cancelled."""
        compared = [entry for entry in deferred if entry.fingerprint is not None]
        alike = [entry for entry in deferred if entry.fingerprint is None]
        # If the first one was rejected, any of these may create the document: they are all the same.
        if alike and not self._index([alike], result, cancelled):
            return False
        attempt = 0
        while not cancelled.is_set():
            missing: list[Entry] = []
            try:
                if compared:
                    self._compare(compared, result, missing)
            except FAILURES as error:
                cancelled.wait(self._backoff.next(attempt, error_label(error), entries=len(compared)))
                attempt += 1
                continue
            # The document was rejected; the next entry may be accepted. One by one: they may share an id.
            return self._index([[entry] for entry in reversed(missing)], result, cancelled)
        return False

    def _send(self, chunk: list[Entry], result: "_BatchResult") -> list[Entry]:
        """Send one bulk request; return the entries that have to be sent again."""
        with self._bulk_seconds.time():
            items = bulk(self._client, [entry.lines for entry in chunk])
        again, existing = [], []
        for entry, item in zip(chunk, items, strict=True):
            if item.status < 300:
                result.count(entry, CREATED)
            elif item.status == 409 and entry.fingerprint is None:
                result.count(entry, REPLAYED)
            elif item.status == 409:
                existing.append(entry)
            elif item.status in (400, 413) and item.error_type not in _CLUSTER_ERRORS:
                result.reject(entry, REJECTED, describe_error(item.error))
            else:
                again.append(entry)
                result.cause = str(item.status)
        if existing:
            try:
                self._compare(existing, result, again)
            except FAILURES as error:
                # The other entries are settled; only these are sent again, and will exist again.
                again += existing
                result.cause = error_label(error)
        return again

    def _compare(self, existing: list[Entry], result: "_BatchResult", missing: list[Entry]) -> None:
        """Tell replays from conflicts among entries whose documents exist: by their fingerprints, in one request."""
        stored = scan.fingerprints(self._client, [(entry.index_name, entry.id) for entry in existing])
        for entry, fingerprint in zip(existing, stored, strict=True):
            if fingerprint is None:
                missing.append(entry)
                result.cause = "vanished"
            elif fingerprint == entry.fingerprint:
                result.count(entry, REPLAYED)
            else:
                result.reject(entry, CONFLICT, _CONFLICT)


class _BatchResult:
    """Results of the entries of a batch so far, and why the last ones have to be sent again."""

    def __init__(self) -> None:
        self.tally: Tally = Counter()
        self.dead_letters: list[RejectedRecord] = []
        self.cause = ""

    def count(self, entry: Entry, result: str) -> None:
        self.tally[entry.record.topic(), result] += 1

    def reject(self, entry: Entry, reason: str, explanation: str) -> None:
        self.add_dead_letter(RejectedRecord(entry.record, reason, explanation, entry.model, entry.request_id))

    def add_dead_letter(self, dead_letter: RejectedRecord) -> None:
        self.dead_letters.append(dead_letter)
        self.tally[dead_letter.record.topic(), dead_letter.reason] += 1


def _error_of(body: Any) -> Any:
    return body.get("error") if isinstance(body, dict) else None
