"""Metrics of the indexer."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from machine_learning_engineering.dead_letters.writer import CONFLICT, REJECTED
from machine_learning_engineering.events.topics import LOGS
from monitoring.documents.common import FAMILIES
from monitoring.indexer.projections import PROJECTIONS
from monitoring.runtime.consumer import ConsumerMetrics
from monitoring.runtime.groups import INDEXER, READS
from monitoring.runtime.metrics import LATENCY_BUCKETS, Declare, register_process

CREATED = "created"
REPLAYED = "replayed"
REPLACED = "replaced"
RESULTS = {
    topic: (CREATED, REPLAYED, REJECTED, projection.undecodable, *((CONFLICT, REPLACED) if topic == LOGS else ()))
    for topic, projection in PROJECTIONS.items()
}
"""Results of documents by topic. Each has a series with the value 0 from the start."""


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
        text = "Indices deleted after their retention, by family."
        self.deleted = metric(Counter, "inflight_indexer_deleted_indices", text, "family")
        self.consumer = ConsumerMetrics(registry, READS[INDEXER])
        for topic, results in RESULTS.items():
            for result in results:
                self.documents.labels(topic, result)
        for family in FAMILIES:
            self.deleted.labels(family)
        register_process(registry)
