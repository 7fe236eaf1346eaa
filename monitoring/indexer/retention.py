"""Deletes indices after their retention: only Inflight's, by their exact names."""

import re
import threading
from calendar import IllegalMonthError, monthrange
from collections.abc import Callable, Iterable
from datetime import UTC, date, datetime

from elasticsearch import Elasticsearch, NotFoundError

from machine_learning_engineering.observability.logging import log_event
from monitoring.documents.common import DAILY, FAMILIES
from monitoring.elastic.client import FAILURES, index_names, quote_path, request
from monitoring.elastic.templates import ForeignTemplate, create_first_indices, put_templates
from monitoring.indexer.metrics import IndexerMetrics
from monitoring.runtime.retry import error_label
from monitoring.settings import IndexerSettings

EVERY_SECONDS = 3_600.0
_NAME = re.compile(rf"inference-({'|'.join(FAMILIES)})-([0-9]{{4}})\.([0-9]{{2}})(?:\.([0-9]{{2}}))?")


def expired(names: Iterable[str], today: date, days: int) -> list[tuple[str, str]]:
    """Name and family of each index whose last day is more than `days` days before today; none if `days` is 0."""
    found = []
    for name in sorted(names):
        match = _NAME.fullmatch(name)
        if match is None or not days:
            continue
        family, year, month, day = match.groups()
        if day is None and family in DAILY:
            continue
        try:
            last = date(int(year), int(month), int(day or monthrange(int(year), int(month))[1]))
        except (ValueError, IllegalMonthError):  # not a date, so not an index of Inflight
            continue
        if (today - last).days > days:
            found.append((name, family))
    return found


def delete_expired(
    client: Elasticsearch,
    today: date,
    days: int,
    on_failure: Callable[[str, Exception], None] = lambda _name, _error: None,
) -> list[tuple[str, str]]:
    """Delete the `expired` indices, closed ones too; return name and family of those deleted here.

    Args:
        on_failure: is given each index that can't be deleted, for example during a snapshot, and why.

    Raises:
        elasticsearch.ApiError, elasticsearch.TransportError, UnexpectedResponse: the indices can't be listed.
    """
    deleted = []
    for name, family in expired(index_names(client, "inference-*", "all"), today, days):
        try:
            request(client, "DELETE", "/" + quote_path(name))
        except NotFoundError:  # another indexer was faster
            continue
        except FAILURES as error:
            on_failure(name, error)
            continue
        deleted.append((name, family))
    return deleted


class Retention(threading.Thread):
    """Once an hour, in a thread: a slow Elasticsearch must not block indexing.

    Deletes what is expired, puts templates that somebody changed, and creates an index for each family without any.
    """

    def __init__(
        self, settings: IndexerSettings, client: Elasticsearch, metrics: IndexerMetrics, stopping: threading.Event
    ) -> None:
        super().__init__(name="inflight-retention", daemon=True)
        self._settings = settings
        self._days = settings.elasticsearch_retention_days
        self._client = client
        self._metrics = metrics
        self._stopping = stopping

    def run(self) -> None:
        while not self._stopping.is_set():
            try:
                self._delete_expired()
                put_templates(self._client, self._settings)
                create_first_indices(self._client, datetime.now(UTC))
            except (*FAILURES, ForeignTemplate) as error:
                log_event("indexer", "retention_failed", cause=error_label(error), reason=str(error)[:300])
            self._stopping.wait(EVERY_SECONDS)

    def _delete_expired(self) -> None:
        for name, family in delete_expired(self._client, datetime.now(UTC).date(), self._days, self._tell):
            log_event("indexer", "index_deleted", index=name, retention_days=self._days)
            self._metrics.deleted.labels(family).inc()

    def _tell(self, name: str, error: Exception) -> None:
        log_event("indexer", "index_not_deleted", index=name, cause=error_label(error), reason=str(error)[:300])
