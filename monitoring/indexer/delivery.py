"""Bringing a batch into Elasticsearch: whatever happens, every entry is accounted for, or the batch is cancelled."""

import re
import threading
from collections import Counter
from typing import Any

from elasticsearch import ApiError, Elasticsearch, TransportError

from machine_learning_engineering.core.validation import safe_field_path
from machine_learning_engineering.dead_letters.writer import CONFLICT, REJECTED, DeadLetter, DeadLetterWriter
from machine_learning_engineering.observability.logging import log_event
from monitoring.elastic import bulk, scan
from monitoring.elastic import client as search
from monitoring.indexer.batch import Batch, lines
from monitoring.indexer.metrics import IndexerMetrics
from monitoring.indexer.projections import Entry
from monitoring.runtime.metrics import Children
from monitoring.runtime.retry import FAILURES, cause_of, wait_before
from monitoring.settings import ElasticsearchSettings

CREATED = "created"
REPLAYED = "replayed"
_CONFLICT = "this request id was used before with another model or other features; the first one is indexed"
# These come with status 400, yet are about the index or the cluster and not about the document: they pass.
_CLUSTER_ERRORS = {
    "index_closed_exception",
    "validation_exception",
    "index_creation_exception",
    "process_cluster_event_timeout_exception",
}
# What Elasticsearch tells of a refused document may be personal data: values, their first bytes, whole lines. Only the
# field's name and a limit are taken from its words.
_FIELD = re.compile(r"\b(?:field|mapping for|field=)\s*[\[\"]([^\]\"]*)[\]\"]")
_LIMIT = re.compile(r"Limit of [a-z ]+\[\d+\] has been exceeded")

Tally = Counter[tuple[str, str]]
"""What became of the documents of a batch: how many by topic and result."""


class Delivery:
    """Sends batches; one object serves several threads.

    Wrong answers are of two kinds. Permanent: the document itself is refused (an item with status 400), or alone is
    too large for the server; its record becomes a dead letter. Everything else (429, 5xx, no connection, access
    denied, a missing or blocked index) is a state of the server, and is tried again for ever.
    """

    def __init__(self, settings: ElasticsearchSettings, client: Elasticsearch, metrics: IndexerMetrics) -> None:
        self._client = client
        self._writer = DeadLetterWriter(settings)
        self._bulk_seconds = metrics.bulk
        self._retries = Children(metrics.retries)

    def deliver(self, batch: Batch, cancelled: threading.Event) -> Tally | None:
        """Index every entry of a batch and set aside what can't be; None if cancelled before that.

        Raises:
            KafkaException: the broker refuses a dead letter for good.
        """
        found = _Found()
        for letter in batch.letters:
            found.set_aside(letter)
        if not self._index([batch.entries] if batch.entries else [], found, cancelled):
            return None
        for earlier in batch.after:
            while not earlier.settled.wait(0.05):
                if cancelled.is_set():
                    return None
        if batch.followers and not self._follow(batch.followers, found, cancelled):
            return None
        if not self._writer.write(found.letters, cancelled):
            return None
        return found.tally

    def _index(self, waiting: list[list[Entry]], found: "_Found", cancelled: threading.Event) -> bool:
        """Send chunks, the last one first, until all of their entries are accounted for; False if cancelled."""
        attempt = 0
        while waiting:
            if cancelled.is_set():
                return False
            chunk = waiting.pop()
            try:
                again = self._send(chunk, found)
            except ApiError as error:
                status = error.meta.status
                if status not in (400, 413):
                    again, cause = chunk, str(status)
                elif len(chunk) > 1:
                    # Too large, or one entry spoils the request: its halves tell.
                    self._count_retry(str(status))
                    middle = len(chunk) // 2
                    waiting += (chunk[middle:], chunk[:middle])
                    continue
                else:
                    found.refuse(chunk[0], REJECTED, f"status {status}: {_describe(_error_of(error.body))}")
                    continue
            except (TransportError, search.StrangeAnswerError) as error:
                again, cause = chunk, type(error).__name__
            else:
                cause = found.cause
            if len(again) < len(chunk):
                attempt = 0
            if again:
                waiting.append(again)
                self._wait(attempt, cause, len(again), cancelled)
                attempt += 1
        return True

    def _follow(self, followers: list[Entry], found: "_Found", cancelled: threading.Event) -> bool:
        """Settle entries whose documents another entry was to create; False if cancelled."""
        compared = [entry for entry in followers if entry.fingerprint is not None]
        alike = [entry for entry in followers if entry.fingerprint is None]
        # Whichever of them creates the document, if the first one did not: they all say the same.
        if alike and not self._index([alike], found, cancelled):
            return False
        attempt = 0
        while not cancelled.is_set():
            vanished: list[Entry] = []
            try:
                if compared:
                    self._compare(compared, found, vanished)
            except FAILURES as error:
                self._wait(attempt, cause_of(error), len(compared), cancelled)
                attempt += 1
                continue
            # The document was refused, so the next one may have better luck: one by one, since they may be alike.
            return self._index([[entry] for entry in reversed(vanished)], found, cancelled)
        return False

    def _send(self, chunk: list[Entry], found: "_Found") -> list[Entry]:
        """One bulk request; the entries that have to be sent again."""
        with self._bulk_seconds.time():
            items = bulk.bulk(self._client, lines(chunk))
        if len(items) != len(chunk):
            found.cause = "unaccounted"
            return chunk
        again, existing = [], []
        for entry, item in zip(chunk, items, strict=True):
            status = item["status"]
            if status < 300:
                found.count(entry, CREATED)
            elif status == 409 and entry.fingerprint is None:
                found.count(entry, REPLAYED)
            elif status == 409:
                existing.append(entry)
            elif _is_permanent(status, item.get("error") or {}):
                found.refuse(entry, REJECTED, _describe(item.get("error")))
            else:
                again.append(entry)
                found.cause = str(status)
        if existing:
            try:
                self._compare(existing, found, again)
            except FAILURES as error:
                # The others of this answer are settled; only these are sent again, to be told again that they exist.
                again += existing
                found.cause = cause_of(error)
        return again

    def _compare(self, existing: list[Entry], found: "_Found", again: list[Entry]) -> None:
        """Tell replays from conflicts among entries whose documents exist: by their fingerprints, in one request."""
        wanted = [{"_index": entry.index_name, "_id": entry.id} for entry in existing]
        for entry, first in zip(existing, scan.fingerprints(self._client, wanted), strict=True):
            if first is None:
                again.append(entry)
                found.cause = "vanished"
            elif first == entry.fingerprint:
                found.count(entry, REPLAYED)
            else:
                found.refuse(entry, CONFLICT, _CONFLICT)

    def _wait(self, attempt: int, cause: str, entries: int, cancelled: threading.Event) -> None:
        self._count_retry(cause)
        seconds = wait_before(attempt)
        if attempt in (0, 5) or attempt % 30 == 29:
            log_event(
                "indexer", "retrying", cause=cause, attempt=attempt + 1, entries=entries, wait_seconds=round(seconds, 2)
            )
        cancelled.wait(seconds)

    def _count_retry(self, cause: str) -> None:
        self._retries(cause).inc()


class _Found:
    """What became of the entries of a batch so far, and why the last ones had to be sent again."""

    def __init__(self) -> None:
        self.tally: Tally = Counter()
        self.letters: list[DeadLetter] = []
        self.cause = ""

    def count(self, entry: Entry, result: str) -> None:
        self.tally[entry.record.topic(), result] += 1

    def refuse(self, entry: Entry, reason: str, explanation: str) -> None:
        self.set_aside(DeadLetter(entry.record, reason, explanation, entry.model, entry.request_id))

    def set_aside(self, letter: DeadLetter) -> None:
        self.letters.append(letter)
        self.tally[letter.record.topic(), letter.reason] += 1


def _is_permanent(status: int, error: dict[str, Any]) -> bool:
    return status in (400, 413) and error.get("type") not in _CLUSTER_ERRORS


def _error_of(body: Any) -> Any:
    return body.get("error") if isinstance(body, dict) else None


def _describe(error: Any) -> str:
    """What is wrong, by the `error` of an item or of an answer, without what it quotes of the document."""
    if not isinstance(error, dict):
        return "Elasticsearch refused the document"
    reason, cause = str(error.get("reason")), error.get("caused_by")
    told = [safe_field_path(str(error.get("type")))]
    if field := _FIELD.search(reason):
        told.append(f"field {safe_field_path(field[1])}")
    if limit := _LIMIT.search(reason):
        told.append(limit[0])
    if isinstance(cause, dict) and "type" in cause:
        told.append(safe_field_path(str(cause["type"])))
    return f"Elasticsearch refused the document: {'; '.join(told)}"
