"""Metrics of the indexer."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.runtime.metrics import LATENCY_BUCKETS, Declare, register_process


class IndexerMetrics:
    """Metrics that `inflight indexer` serves; `docs/metrics.md` describes them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        metric = Declare(registry)
        text = "Documents by topic and result: created, replayed, replaced, or the reason of their dead letter."
        self.documents = metric(Counter, "inflight_indexer_documents", text, "topic", "result")
        text = "Retries of bulk requests, or parts of one, by cause: an HTTP status or an error."
        self.retries = metric(Counter, "inflight_indexer_retries", text, "cause")
        text = "Duration of one successful bulk request."
        self.bulk = metric(Histogram, "inflight_indexer_bulk_seconds", text, buckets=LATENCY_BUCKETS)
        text = "Records that are read and not committed yet."
        self.in_flight = metric(Gauge, "inflight_indexer_in_flight_documents", text)
        text = "Uncommitted records of this process's partitions, of all topics."
        self.lag = metric(Gauge, "inflight_indexer_lag_records", text)
        text = "Indices deleted after their retention, by family."
        self.deleted = metric(Counter, "inflight_indexer_deleted_indices", text, "family")
        register_process(registry)
