"""Metrics of the exporter; `docs/metrics.md` describes them. Durations are in seconds."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.runtime.metrics import LATENCY_BUCKETS, register_process


class ExporterMetrics:
    """Metrics that `inflight exporter` serves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.predictions = counter(
            "inflight_predictions",
            "Processed requests, by outcome: completed or failed.",
            ["model", "model_version", "outcome"],
            unit="predictions",
        )
        self.errors = counter(
            "inflight_prediction_errors", "Failed predictions, by type of error.", ["model", "type"], unit="errors"
        )
        self.latency = histogram(
            "inflight_prediction_latency_seconds",
            "Time in a stage: queue (accepted to start of scoring), score (its batch), total (accepted to completed).",
            ["model", "stage"],
            unit="seconds",
            buckets=LATENCY_BUCKETS,
        )
        self.dead_letters = counter(
            "inflight_dead_letters",
            "Dead letters, by reason and by the stage that rejected the record.",
            ["reason", "stage"],
            unit="letters",
        )
        self.unreadable = counter(
            "inflight_exporter_unreadable_records",
            "Records of the log topic that are not log events; the indexer turns each into a dead letter.",
            unit="records",
        )
        self.log_age = gauge(
            "inflight_log_age_seconds",
            "Time since the newest observed request was completed; it grows while nothing is completed.",
            unit="seconds",
        )
        self.lag = gauge(
            "inflight_consumer_lag_records",
            "Records of a topic that a consumer group has not committed yet.",
            ["group", "topic"],
            unit="records",
        )
        self.lag_checked = gauge(
            "inflight_consumer_lag_age_seconds",
            "Time since the lag was last read from the broker; it grows while the broker is unreachable.",
            unit="seconds",
        )
        register_process(registry)
