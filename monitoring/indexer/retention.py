"""Deletes daily indices after their retention: only Inflight's, by their exact names, and only if configured."""

import re
import threading
from collections.abc import Iterable
from datetime import UTC, date, datetime

from elasticsearch import Elasticsearch, NotFoundError

from machine_learning_engineering.observability.logging import log_event
from monitoring.documents.common import FAMILIES
from monitoring.elastic.client import FAILURES, index_names, quote_path, request
from monitoring.indexer.metrics import IndexerMetrics
from monitoring.settings import IndexerSettings

EVERY_SECONDS = 3_600.0
_NAME = re.compile(rf"inference-({'|'.join(FAMILIES)})-([0-9]{{4}})\.([0-9]{{2}})\.([0-9]{{2}})")


def expired(names: Iterable[str], today: date, days: int) -> list[tuple[str, str]]:
    """Name and family of each index whose day is more than `days` days before today; none if `days` is 0."""
    found = []
    for name in sorted(names):
        match = _NAME.fullmatch(name)
        if match is None or not days:
            continue
        try:
            age = today - date(*map(int, match.groups()[1:]))
        except ValueError:  # not a date, so not an index of Inflight
            continue
        if age.days > days:
            found.append((name, match[1]))
    return found


def delete_expired(client: Elasticsearch, today: date, days: int) -> list[tuple[str, str]]:
    """Delete the `expired` indices; return name and family of those deleted here. Raises as `request` does."""
    deleted = []
    for name, family in expired(index_names(client, "inference-*"), today, days):
        try:
            request(client, "DELETE", "/" + quote_path(name))
        except NotFoundError:  # another indexer was faster
            continue
        deleted.append((name, family))
    return deleted


class Retention(threading.Thread):
    """Deletes once an hour, in a thread: a slow Elasticsearch must not block indexing."""

    def __init__(
        self, settings: IndexerSettings, client: Elasticsearch, metrics: IndexerMetrics, stopping: threading.Event
    ) -> None:
        super().__init__(name="inflight-retention", daemon=True)
        self._days = settings.elasticsearch_retention_days
        self._client = client
        self._metrics = metrics
        self._stopping = stopping

    def run(self) -> None:
        while self._days and not self._stopping.is_set():
            try:
                deleted = delete_expired(self._client, datetime.now(UTC).date(), self._days)
            except FAILURES as error:
                log_event("indexer", "retention_failed", cause=str(error))
            else:
                for name, family in deleted:
                    log_event("indexer", "index_deleted", index=name, retention_days=self._days)
                    self._metrics.deleted.labels(family).inc()
            self._stopping.wait(EVERY_SECONDS)
