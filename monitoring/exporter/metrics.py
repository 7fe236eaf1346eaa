"""Every metric of the exporter and of the indexer: name, unit, labels and help, in one place.

`docs/metrics.md` describes each of them, and a test compares. Durations are in seconds. Nothing here is global: a
process makes the set that it serves, on a registry of its own.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.runtime.metrics import register_process

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)


class ExporterMetrics:
    """What `inflight exporter` counts from the events."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.predictions = Counter(
            "inflight_predictions",
            "Requests that were answered, by outcome: completed or failed.",
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
            "Records that were set aside as dead letters, by reason and by the stage that set them aside.",
            ["reason", "stage"],
            unit="letters",
            registry=registry,
        )
        self.unreadable = Counter(
            "inflight_exporter_unreadable_records",
            "Records of the log topic that are no log events; the indexer makes a dead letter of each.",
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
            "Time since the lag was last read from the broker; it grows while the broker can't be reached.",
            unit="seconds",
            registry=registry,
        )
        register_process(registry)
