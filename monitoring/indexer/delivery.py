"""Delivery of a batch to Elasticsearch: every entry is accounted for, or the batch is cancelled."""

import threading
from collections import Counter
from datetime import UTC, datetime
from time import monotonic
from typing import Any

import msgspec
from elasticsearch import ApiError, ConnectionTimeout, Elasticsearch, TransportError

from machine_learning_engineering.dead_letters.writer import CONFLICT, REJECTED, DeadLetterWriter, RejectedRecord
from monitoring.elastic import scan
from monitoring.elastic.bulk import BulkItem, action, bulk, describe_error, describe_refusal
from monitoring.elastic.client import FAILURES, UnexpectedResponse, elasticsearch_error
from monitoring.indexer.batch import Batch
from monitoring.indexer.metrics import CREATED, REPLACED, REPLAYED, IndexerMetrics
from monitoring.indexer.projections import Entry
from monitoring.runtime.retry import Backoff, error_label, error_reason
from monitoring.settings import IndexerSettings

HALVED = "halved"
"""Cause of the retry of a request that is too large or spoilt by a record: no fault of Elasticsearch."""
MAX_REFUSALS = 10
"""Requests of a single record that may be refused in a row, as the record's fault. More are the server's."""
BLOCKED_SECONDS = 300.0
"""Time that a record waits for the index of a past day, which is blocked or closed like that of an archive."""
_CONFLICT = "this request id was used before with another model or other features; the first one is indexed"
# These errors have status 400, but concern the index or the cluster and not the document: they are temporary.
_CLUSTER_ERRORS = {
    "index_closed_exception",
    "validation_exception",
    "index_creation_exception",
    "process_cluster_event_timeout_exception",
}
_NO_PIPELINE = "pipeline with id ["
# Another request made the mapping of a new field meanwhile. The next attempt finds it.
_RACE = "cannot be changed from type"

Tally = Counter[tuple[str, str]]
"""Number of documents of a batch by topic and result."""


class Delivery:
    """Sends batches; several threads may share it.

    Failures are permanent or temporary. Permanent: Elasticsearch rejects the document itself (an item with status 400),
    or a request of its record alone (400, or 413: too large); the record becomes a dead letter. Everything else (429,
    5xx, no connection, access denied, a missing or blocked index) is a state of the server, and is retried forever. So
    is a 400 that is not one of Elasticsearch's, and a server that refuses one record after the other.
    """

    def __init__(self, settings: IndexerSettings, client: Elasticsearch, metrics: IndexerMetrics) -> None:
        self._client = client
        self._writer = DeadLetterWriter(settings)
        self._bulk_seconds = metrics.bulk
        self._backoff = Backoff("indexer", metrics.retries)
        self._refusals = self._successes = 0
        self._blocked_since: dict[str, float] = {}

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
            chunk, refused, slow = waiting.pop(), False, False
            try:
                again = self._send(chunk, result)
            except ApiError as error:
                again, cause, why = chunk, str(error.meta.status), error_reason(error)
                if _may_be_a_record(error):
                    if len(chunk) > 1:
                        # The request is too large, or one entry spoils it: send its halves.
                        self._backoff.count(HALVED)
                        waiting += _halves(chunk)
                        continue
                    if self._is_believed(chunk[0], result):
                        explanation = describe_error(elasticsearch_error(error))
                        result.reject(chunk[0], REJECTED, f"status {cause}: {explanation}")
                        continue
                    refused = True
            except (TransportError, UnexpectedResponse) as error:
                again, cause, why = chunk, error_label(error), ""
                # As a whole it may never be done in time. Of its parts, what is done stays done.
                slow = isinstance(error, ConnectionTimeout)
            else:
                self._refusals = 0
                self._successes += 1
                cause, why = result.cause, result.why
            if len(again) < len(chunk):
                attempt = 0
            if again:
                # After a refusal at the other end: if one of the others is accepted, the next refusal is believed.
                parts = _halves(again) if slow and len(again) > 1 else (again,)
                end = 0 if refused else len(waiting)
                waiting[end:end] = parts
                reason = {"reason": why} if why else {}
                cancelled.wait(self._backoff.next(attempt, cause, entries=len(again), **reason))
                attempt += 1
        return True

    def _is_believed(self, entry: Entry, result: "_BatchResult") -> bool:
        """Whether a refusal of a single record is about that record: not after many in a row.

        Once the server has taken something else since the last refusal of the same record, it is.
        """
        self._refusals += 1
        before = result.refused.setdefault(entry.action, self._successes)
        return self._refusals <= MAX_REFUSALS or before < self._successes

    def _index_deferred(self, deferred: list[Entry], result: "_BatchResult", cancelled: threading.Event) -> bool:
        """Settle entries whose documents another entry was to create; False if cancelled."""
        compared = [entry for entry in deferred if entry.fingerprint is not None]
        alike = [entry for entry in deferred if entry.fingerprint is None]
        # If the first one was rejected, any of these may create the document: they are all the same.
        if alike and not self._index([alike], result, cancelled):
            return False
        attempt = 0
        while not cancelled.is_set():
            try:
                again = [entry for entry, _ in self._compare(compared, result)]
            except FAILURES as error:
                cancelled.wait(self._backoff.next(attempt, error_label(error), entries=len(compared)))
                attempt += 1
                continue
            # The document was rejected, so the next entry may be accepted; or the entry replaces it. One by one: they
            # may share an id.
            return self._index([[entry] for entry in reversed(again)], result, cancelled)
        return False

    def _send(self, chunk: list[Entry], result: "_BatchResult") -> list[Entry]:
        """Send one bulk request; return the entries that have to be sent again."""
        with self._bulk_seconds.time():
            items = bulk(self._client, [entry.lines for entry in chunk])
        again, existing = [], []
        for entry, item in zip(chunk, items, strict=True):
            if item.status < 300:
                result.count(entry, CREATED)
                self._blocked_since.pop(entry.index_name, None)
            elif item.status == 409 and entry.fingerprint is None:
                result.count(entry, REPLAYED)
            elif item.status == 409:
                existing.append(entry)
            elif self._is_permanent(entry, item, result):
                result.reject(entry, REJECTED, describe_error(item.error))
            else:
                again.append(entry)
                result.cause, result.why = str(item.status), describe_refusal(item.error)
        try:
            differing = self._compare(existing, result)
        except FAILURES as error:
            # The other entries are settled; only these are sent again, and will exist again.
            result.cause, result.why = error_label(error), ""
            return again + existing
        try:
            return again + self._replace(differing, result)
        except FAILURES as error:
            result.cause, result.why = error_label(error), ""
            return again + [entry for entry, _ in differing]

    def _is_permanent(self, entry: Entry, item: BulkItem, result: "_BatchResult") -> bool:
        """Whether sending a rejected document again is pointless."""
        kind, reason = item.error_type, str((item.error or {}).get("reason", ""))[:1_000]
        if kind == "index_closed_exception" or (item.status == 403 and kind == "cluster_block_exception"):
            # The current index will be opened again; that of a past day is an archive.
            waited = monotonic() - self._blocked_since.setdefault(entry.index_name, monotonic())
            return waited > BLOCKED_SECONDS and _is_past(entry.index_name)
        if item.status not in (400, 413) or kind in _CLUSTER_ERRORS or reason.startswith(_NO_PIPELINE):
            return False
        if _RACE in reason and entry.action not in result.raced:
            result.raced.add(entry.action)
            return False
        return True

    def _compare(self, existing: list[Entry], result: "_BatchResult") -> list[tuple[Entry, scan.StoredRequest | None]]:
        """Settle the entries whose documents exist: replays and conflicts, by their fingerprints, in one request.

        Returns:
            The others: those whose documents have vanished, and those of which a completed one replaces a failed one.
        """
        if not existing:
            return []
        found = scan.stored_requests(self._client, [(entry.index_name, entry.id) for entry in existing])
        differing: list[tuple[Entry, scan.StoredRequest | None]] = []
        for entry, stored in zip(existing, found, strict=True):
            if stored is not None and stored.fingerprint != entry.fingerprint:
                result.reject(entry, CONFLICT, _CONFLICT)
            elif stored is None or (stored.outcome, entry.outcome) == ("failed", "completed"):
                differing.append((entry, stored))
            else:
                result.count(entry, REPLAYED)
        return differing

    def _replace(self, differing: list[tuple[Entry, scan.StoredRequest | None]], result: "_BatchResult") -> list[Entry]:
        """Put completed requests in place of their failed documents, with the labels of these.

        Returns:
            Entries to send again: their documents have vanished or changed meanwhile.
        """
        replaced = [(entry, stored) for entry, stored in differing if stored is not None]
        again = [entry for entry, stored in differing if stored is None]
        if again:
            result.cause, result.why = "vanished", ""
        lines = [
            action("index", entry.index_name, entry.id, if_seq_no=stored.seq_no, if_primary_term=stored.primary_term)
            + b"\n"
            + _with_label(entry.document, stored.label)
            for entry, stored in replaced
        ]
        for (entry, _), item in zip(replaced, bulk(self._client, lines) if lines else [], strict=True):
            if item.status < 300:
                result.count(entry, REPLACED)
            elif self._is_permanent(entry, item, result):
                result.reject(entry, REJECTED, describe_error(item.error))
            else:
                again.append(entry)
                result.cause, result.why = str(item.status), describe_refusal(item.error)
        return again


class _BatchResult:
    """Results of the entries of a batch so far, and why the last ones have to be sent again."""

    def __init__(self) -> None:
        self.tally: Tally = Counter()
        self.dead_letters: list[RejectedRecord] = []
        self.cause = self.why = ""
        self.refused: dict[bytes, int] = {}
        """Entries that were refused on their own, and how many requests had succeeded before."""
        self.raced: set[bytes] = set()
        """Actions of the entries that were rejected because of a mapping that another request made."""

    def count(self, entry: Entry, result: str) -> None:
        self.tally[entry.record.topic(), result] += 1

    def reject(self, entry: Entry, reason: str, explanation: str) -> None:
        self.add_dead_letter(RejectedRecord(entry.record, reason, explanation, entry.model, entry.request_id))

    def add_dead_letter(self, dead_letter: RejectedRecord) -> None:
        self.dead_letters.append(dead_letter)
        self.tally[dead_letter.record.topic(), dead_letter.reason] += 1


def _may_be_a_record(error: ApiError) -> bool:
    """Whether an error of a whole request may be the fault of a record in it, and not of a proxy or the cluster."""
    status, found = error.meta.status, elasticsearch_error(error)
    # Servers and proxies refuse what is too large with any body, or with none.
    return status == 413 or (status == 400 and found is not None and found["type"] not in _CLUSTER_ERRORS)


def _halves(chunk: list[Entry]) -> tuple[list[Entry], list[Entry]]:
    """The second half and the first, which is sent first."""
    middle = len(chunk) // 2
    return chunk[middle:], chunk[:middle]


def _is_past(index: str) -> bool:
    """Whether an index is of an earlier day or month, by the end of its name."""
    day = index.rpartition("-")[2]
    return day < f"{datetime.now(UTC):%Y.%m.%d}"[: len(day)]


def _with_label(document: bytes, label: dict[str, Any]) -> bytes:
    if not label:
        return document
    fields = msgspec.json.decode(document)
    fields["inflight"] |= label
    return msgspec.json.encode(fields)
