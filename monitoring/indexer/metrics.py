"""Metrics of the indexer."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.runtime.metrics import LATENCY_BUCKETS, register_process


class IndexerMetrics:
    """Metrics that `inflight indexer` serves; `docs/metrics.md` describes them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.documents = Counter(
            "inflight_indexer_documents",
            "Documents by topic and result: created, replayed (was there already), or the reason of their dead letter.",
            ["topic", "result"],
            unit="documents",
            registry=registry,
        )
        self.retries = Counter(
            "inflight_indexer_retries",
            "Bulk requests, or parts of one, that have to be sent again, by cause: an HTTP status or an error.",
            ["cause"],
            unit="retries",
            registry=registry,
        )
        self.bulk = Histogram(
            "inflight_indexer_bulk_seconds",
            "Time of one bulk request that was answered.",
            unit="seconds",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "inflight_indexer_in_flight_documents",
            "Records that were read and are not committed yet.",
            unit="documents",
            registry=registry,
        )
        self.lag = Gauge(
            "inflight_indexer_lag_records",
            "Records of this process's partitions, of all topics, that it has not committed yet.",
            unit="records",
            registry=registry,
        )
        self.deleted = Counter(
            "inflight_indexer_deleted_indices",
            "Daily indices that were deleted because their retention is over, by family.",
            ["family"],
            unit="indices",
            registry=registry,
        )
        register_process(registry)
