"""Metrics of the indexer."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.runtime.metrics import LATENCY_BUCKETS, register_process


class IndexerMetrics:
    """Metrics that `inflight indexer` serves; `docs/metrics.md` describes them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.documents = counter(
            "inflight_indexer_documents",
            "Documents by topic and result: created, replayed (existed already), or the reason of their dead letter.",
            ["topic", "result"],
            unit="documents",
        )
        self.retries = counter(
            "inflight_indexer_retries",
            "Retries of bulk requests, or parts of one, by cause: an HTTP status or an error.",
            ["cause"],
            unit="retries",
        )
        self.bulk = histogram(
            "inflight_indexer_bulk_seconds",
            "Duration of one successful bulk request.",
            unit="seconds",
            buckets=LATENCY_BUCKETS,
        )
        self.in_flight = gauge(
            "inflight_indexer_in_flight_documents",
            "Records that are read and not committed yet.",
            unit="documents",
        )
        self.lag = gauge(
            "inflight_indexer_lag_records",
            "Uncommitted records of this process's partitions, of all topics.",
            unit="records",
        )
        self.deleted = counter(
            "inflight_indexer_deleted_indices",
            "Daily indices deleted after their retention, by family.",
            ["family"],
            unit="indices",
        )
        register_process(registry)
