"""Metrics of the exporter; `docs/metrics.md` describes them. Durations are in seconds."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.runtime.consumer import ConsumerMetrics
from monitoring.runtime.metrics import LATENCY_BUCKETS, Declare, register_process


class ExporterMetrics:
    """Metrics that `inflight exporter` serves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        metric = Declare(registry)
        text = "Processed requests, by outcome: completed or failed."
        self.predictions = metric(Counter, "inflight_predictions", text, "model", "model_version", "outcome")
        text = "Failed predictions, by type of error."
        self.errors = metric(Counter, "inflight_prediction_errors", text, "model", "type")
        name = "inflight_prediction_latency_seconds"
        text = (
            "Time in a stage: queue (accepted to start of scoring), score (its batch), total (accepted to completed)."
        )
        self.latency = metric(Histogram, name, text, "model", "stage", buckets=LATENCY_BUCKETS)
        text = "Dead letters, by reason and by the stage that rejected the record."
        self.dead_letters = metric(Counter, "inflight_dead_letters", text, "reason", "stage")
        text = "Records of the log topic that are not log events; the indexer turns each into a dead letter."
        self.unreadable = metric(Counter, "inflight_exporter_unreadable_records", text)
        text = "Time since the newest observed request was completed; it grows while nothing is completed."
        self.log_age = metric(Gauge, "inflight_log_age_seconds", text)
        text = "Records of a topic that a consumer group has not committed yet."
        self.lag = metric(Gauge, "inflight_consumer_lag_records", text, "group", "topic")
        text = "Time since the lag was last read from the broker; it grows while the broker is unreachable."
        self.lag_checked = metric(Gauge, "inflight_consumer_lag_age_seconds", text)
        self.consumer = ConsumerMetrics(registry)
        register_process(registry)
