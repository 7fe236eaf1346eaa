"""Deleting daily indices whose time is over: only ours, by their exact names, and only if that is asked for."""

import re
import threading
from collections.abc import Iterable
from datetime import UTC, date, datetime

from elasticsearch import ApiError, Elasticsearch, NotFoundError, TransportError

from machine_learning_engineering.observability.logging import log_event
from monitoring.documents.common import FAMILIES
from monitoring.elastic import client as search
from monitoring.indexer.metrics import IndexerMetrics
from monitoring.settings import IndexerSettings

EVERY_SECONDS = 3_600.0
_NAME = re.compile(rf"inference-({'|'.join(FAMILIES)})-([0-9]{{4}})\.([0-9]{{2}})\.([0-9]{{2}})")


def expired(names: Iterable[str], today: date, days: int) -> list[tuple[str, str]]:
    """Name and family of each index whose day is more than `days` days before today; of 0 days, none."""
    found = []
    for name in sorted(names):
        match = _NAME.fullmatch(name)
        if match is None or not days:
            continue
        try:
            age = today - date(*map(int, match.groups()[1:]))
        except ValueError:  # no day of the calendar, so none of this product's
            continue
        if age.days > days:
            found.append((name, match[1]))
    return found


def delete_expired(client: Elasticsearch, today: date, days: int) -> list[tuple[str, str]]:
    """Delete the indices that are `expired`; name and family of those that this call deleted.

    Raises:
        elasticsearch.ApiError: an answer that is not 2xx.
        elasticsearch.TransportError: no answer.
    """
    deleted = []
    for name, family in expired(search.index_names(client, "inference-*"), today, days):
        try:
            search.call(client, "DELETE", "/" + search.quoted(name))
        except NotFoundError:  # another indexer was quicker
            continue
        deleted.append((name, family))
    return deleted


class Retention(threading.Thread):
    """Deletes once an hour, in a thread: a slow search node must not stop the indexing."""

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
            except (ApiError, TransportError) as error:
                log_event("indexer", "retention_failed", cause=str(error))
            else:
                for name, family in deleted:
                    log_event("indexer", "index_deleted", index=name, retention_days=self._days)
                    self._metrics.deleted.labels(family).inc()
            self._stopping.wait(EVERY_SECONDS)
