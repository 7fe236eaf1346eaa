"""Metrics of `inflight features follow`."""

from prometheus_client import CollectorRegistry, Counter, Histogram

from monitoring.runtime.consumer import ConsumerMetrics
from monitoring.runtime.groups import FEATURES, READS
from monitoring.runtime.metrics import LATENCY_BUCKETS, Declare, register_process

RESULTS = ("request", "label", "unreadable", "other_model")


class FeatureMetrics:
    """Metrics that `inflight features follow` serves; `docs/metrics.md` describes them."""

    def __init__(self, registry: CollectorRegistry) -> None:
        metric = Declare(registry)
        text = "Records read, by result: request, label, unreadable, or other_model (not one of those that are stored)."
        self.records = metric(Counter, "inflight_features_records", text, "result")
        for result in RESULTS:
            self.records.labels(result)
        text = "Duration of one write to the store, with the examples."
        self.flush = metric(Histogram, "inflight_features_flush_seconds", text, buckets=LATENCY_BUCKETS)
        self.consumer = ConsumerMetrics(registry, READS[FEATURES])
        register_process(registry)
