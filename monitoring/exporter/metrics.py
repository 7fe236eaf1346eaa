"""Metrics of the exporter; `docs/metrics.md` describes them. Durations are in seconds."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.runtime.metrics import LATENCY_BUCKETS, register_process


class ExporterMetrics:
    """Metrics that `inflight exporter` serves."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.predictions = Counter(
            "inflight_predictions",
            "Processed requests, by outcome: completed or failed.",
            ["model", "model_version", "outcome"],
            unit="predictions",
            registry=registry,
        )
        self.errors = Counter(
            "inflight_prediction_errors",
            "Failed predictions, by type of error.",
            ["model", "type"],
            unit="errors",
            registry=registry,
        )
        self.latency = Histogram(
            "inflight_prediction_latency_seconds",
            "Time in a stage: queue (accepted to start of scoring), score (its batch), total (accepted to completed).",
            ["model", "stage"],
            unit="seconds",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.dead_letters = Counter(
            "inflight_dead_letters",
            "Dead letters, by reason and by the stage that rejected the record.",
            ["reason", "stage"],
            unit="letters",
            registry=registry,
        )
        self.unreadable = Counter(
            "inflight_exporter_unreadable_records",
            "Records of the log topic that are not log events; the indexer turns each into a dead letter.",
            unit="records",
            registry=registry,
        )
        self.log_age = Gauge(
            "inflight_log_age_seconds",
            "Time since the newest observed request was completed; it grows while nothing is completed.",
            unit="seconds",
            registry=registry,
        )
        self.lag = Gauge(
            "inflight_consumer_lag_records",
            "Records of a topic that a consumer group has not committed yet.",
            ["group", "topic"],
            unit="records",
            registry=registry,
        )
        self.lag_checked = Gauge(
            "inflight_consumer_lag_age_seconds",
            "Time since the lag was last read from the broker; it grows while the broker is unreachable.",
            unit="seconds",
            registry=registry,
        )
        register_process(registry)
