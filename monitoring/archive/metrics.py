"""Metrics of the archive; `docs/metrics.md` describes them. Durations are in seconds."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.archive.store import REFUSED, REPEATED, WRITTEN
from monitoring.archive.tables import AGES
from monitoring.runtime.consumer import ConsumerMetrics
from monitoring.runtime.groups import ARCHIVE, READS
from monitoring.runtime.metrics import LATENCY_BUCKETS, Declare, register_process

EXPIRED, UNREADABLE = "expired", "unreadable"
RESULTS = (WRITTEN, REPEATED, REFUSED, EXPIRED, UNREADABLE)


class ArchiveMetrics:
    """Metrics that `inflight archive` serves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        metric = Declare(registry)
        text = "Records by topic and result: written, repeated, refused by the database, expired, or unreadable."
        self.records = metric(Counter, "inflight_archive_records", text, "topic", "result")
        text = "Duration of one transaction that writes records."
        self.write = metric(Histogram, "inflight_archive_write_seconds", text, buckets=LATENCY_BUCKETS)
        text = "Retries of transactions, by the type of the error."
        self.retries = metric(Counter, "inflight_archive_retries", text, "cause")
        text = "Rows that were deleted by their age, by table."
        self.deleted = metric(Counter, "inflight_archive_deleted_rows", text, "table")
        text = "1 if the last transaction succeeded, 0 if the database is unavailable."
        self.available = metric(Gauge, "inflight_archive_database_available", text)
        self.consumer = ConsumerMetrics(registry, READS[ARCHIVE])
        for topic in READS[ARCHIVE]:
            for result in RESULTS:
                self.records.labels(topic, result)
        for table in AGES:
            self.deleted.labels(table)
        register_process(registry)
