"""Bringing a batch into Elasticsearch: whatever happens, every entry is accounted for, or the batch is cancelled."""

import random
import threading
from typing import Any, NamedTuple

from elasticsearch import ApiError, Elasticsearch, TransportError

from machine_learning_engineering.settings import Settings
from monitoring import search
from monitoring.batches import Batch, Entry, conflict, lines
from monitoring.dead_letters import CONFLICT, REJECTED, DeadLetter, DeadLetterWriter
from monitoring.metrics import Children, IndexerMetrics
from monitoring.process import say

FIRST_WAIT = 0.2
LONGEST_WAIT = 10.0
# These come with status 400, yet are about the index or the cluster and not about the document: they pass.
_CLUSTER_ERRORS = {
    "index_closed_exception",
    "validation_exception",
    "index_creation_exception",
    "process_cluster_event_timeout_exception",
}


class Tally(NamedTuple):
    """What became of the records of a batch."""

    created: int
    replayed: int
    letters: list[DeadLetter]


class Delivery:
    """Sends batches; one object serves several threads.

    Wrong answers are of two kinds. Permanent: the document itself is refused (an item with status 400), or alone is
    too large for the server; its record becomes a dead letter. Everything else (429, 5xx, no connection, access
    denied, a missing or blocked index) is a state of the server, and is tried again for ever.
    """

    def __init__(self, settings: Settings, client: Elasticsearch, metrics: IndexerMetrics) -> None:
        self._client = client
        self._writer = DeadLetterWriter(settings)
        self._bulk_seconds = metrics.bulk
        self._retries = Children(metrics.retries)

    def deliver(self, batch: Batch, cancelled: threading.Event) -> Tally | None:
        """Index every entry of a batch and set aside what can't be; None if cancelled before that.

        Raises:
            KafkaException: the broker refuses a dead letter for good.
        """
        letters = list(batch.letters)
        created, replayed = 0, batch.replayed
        waiting = [batch.entries] if batch.entries else []
        attempt = 0
        while waiting:
            if cancelled.is_set():
                return None
            chunk = waiting.pop()
            try:
                answer = self._send(chunk)
            except ApiError as error:
                status = error.meta.status
                if status not in (400, 413):
                    cause = str(status)
                elif len(chunk) > 1:
                    # Too large, or one entry spoils the request: its halves tell.
                    self._count_retry(str(status))
                    middle = len(chunk) // 2
                    waiting += (chunk[middle:], chunk[:middle])
                    continue
                else:
                    letters.append(chunk[0].letter(REJECTED, f"Elasticsearch answered {status}: {error}"))
                    continue
            except (TransportError, search.StrangeAnswerError) as error:
                cause = type(error).__name__
            else:
                created += answer.created
                replayed += answer.replayed
                letters += answer.letters
                if not answer.again:
                    attempt = 0
                    continue
                cause = answer.cause
                if len(answer.again) < len(chunk):
                    attempt = 0
                chunk = answer.again
            waiting.append(chunk)
            self._wait(attempt, cause, len(chunk), cancelled)
            attempt += 1
        if not self._writer.write(letters, cancelled):
            return None
        return Tally(created, replayed, letters)

    def _send(self, chunk: list[Entry]) -> "_Answer":
        with self._bulk_seconds.time():
            items = search.bulk(self._client, lines(chunk))
        answer = _Answer()
        if len(items) != len(chunk):
            answer.again, answer.cause = chunk, "unaccounted"
            return answer
        existing = []
        for entry, item in zip(chunk, items, strict=True):
            status = item["status"]
            if status < 300:
                answer.created += 1
            elif status == 409:
                existing.append(entry)
            elif _is_permanent(status, item.get("error") or {}):
                answer.letters.append(entry.letter(REJECTED, _describe(item["error"])))
            else:
                answer.again.append(entry)
                answer.cause = str(status)
        if existing:
            self._compare(existing, answer)
        return answer

    def _compare(self, existing: list[Entry], answer: "_Answer") -> None:
        """Tell replays from conflicts among entries whose documents exist: by their fingerprints, in one request."""
        try:
            wanted = [{"_index": entry.index_name, "_id": entry.id} for entry in existing]
            found = search.fingerprints(self._client, wanted)
        except (ApiError, TransportError, search.StrangeAnswerError) as error:
            # The others of this answer are settled; only these are sent again, to be told again that they exist.
            answer.again += existing
            answer.cause = str(error.meta.status) if isinstance(error, ApiError) else type(error).__name__
            return
        for entry, first in zip(existing, found, strict=True):
            if first is None:
                answer.again.append(entry)
                answer.cause = "vanished"
            elif first == entry.fingerprint:
                answer.replayed += 1
            else:
                answer.letters.append(entry.letter(CONFLICT, conflict(entry)))

    def _wait(self, attempt: int, cause: str, entries: int, cancelled: threading.Event) -> None:
        self._count_retry(cause)
        seconds = min(LONGEST_WAIT, FIRST_WAIT * 2 ** min(attempt, 16)) * random.uniform(0.5, 1.0)
        if attempt in (0, 5) or attempt % 30 == 29:
            say(
                "indexer", "retrying", cause=cause, attempt=attempt + 1, entries=entries, wait_seconds=round(seconds, 2)
            )
        cancelled.wait(seconds)

    def _count_retry(self, cause: str) -> None:
        self._retries(cause).inc()


class _Answer:
    """What one bulk request settled, and which entries have to be sent again."""

    def __init__(self) -> None:
        self.created = 0
        self.replayed = 0
        self.letters: list[DeadLetter] = []
        self.again: list[Entry] = []
        self.cause = ""


def _is_permanent(status: int, error: dict[str, Any]) -> bool:
    return status in (400, 413) and error.get("type") not in _CLUSTER_ERRORS


def _describe(error: dict[str, Any]) -> str:
    text = f"Elasticsearch refused the document: {error.get('type')}: {error.get('reason')}"
    cause = error.get("caused_by")
    return f"{text}; {cause['reason']}" if isinstance(cause, dict) and "reason" in cause else text
