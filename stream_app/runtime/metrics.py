"""The worker's own metrics: fetching, scoring, publishing, committing. Durations in seconds, sizes in bytes.

Metrics of the predictions, by model, come from `inflight exporter`, which derives them from the log.
"""

from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)


class WorkerMetrics:
    """The worker's metrics, in a registry of their own, so that one process can hold two workers.

    Any thread may update them. `lag` is set from librdkafka's statistics, the gauges by the watchdog, the rest by the
    scheduler.
    """

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        outcomes = Counter("inflight_worker_records", "Requests by outcome.", ["outcome"], registry=registry)
        self.completed = outcomes.labels("completed")
        self.failed = outcomes.labels("failed")
        self.dead_letters = outcomes.labels("dead_letter")
        self.batch_records = Histogram(
            "inflight_worker_batch_records", "Requests scored together.", buckets=_RECORDS, registry=registry
        )
        self.score_seconds = Histogram(
            "inflight_worker_score_seconds",
            "Time to decode, predict and encode one batch.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.publish_seconds = Histogram(
            "inflight_worker_publish_seconds",
            "Time from publishing a batch's outputs until all are acknowledged.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.in_flight_batches = Gauge(
            "inflight_worker_in_flight_batches",
            "Partition batches being scored or published.",
            registry=registry,
        )
        self.buffer_bytes = Gauge(
            "inflight_worker_buffer_bytes",
            "Memory of fetched requests without an outcome.",
            registry=registry,
        )
        self.unacknowledged = Gauge(
            "inflight_worker_unacknowledged_records", "Outputs that the broker has not acknowledged.", registry=registry
        )
        self.oldest_batch_seconds = Gauge(
            "inflight_worker_oldest_batch_seconds",
            "Time for which the oldest unfinished batch has been the oldest one.",
            registry=registry,
        )
        self.lag = Gauge(
            "inflight_worker_lag_records",
            "Requests on the topic at or above the committed offset.",
            ["topic", "partition"],
            registry=registry,
        )
        self.assigned = Gauge(
            "inflight_worker_assigned_partitions", "Partitions that this worker owns.", registry=registry
        )
        self.model = Gauge(
            "inflight_worker_model_info",
            "1 for each model that is served.",
            ["model", "model_version"],
            registry=registry,
        )
        self.models_refused = Counter(
            "inflight_worker_models_refused",
            "Promoted versions that could not be opened; the previous version stays in service.",
            registry=registry,
        )

    def on_statistics(self, statistics: dict[str, Any]) -> None:
        """Set the lag from librdkafka's statistics, in records (-1 means not known yet). In the poller's thread."""
        for topic, of_topic in statistics.get("topics", {}).items():
            for partition, found in of_topic.get("partitions", {}).items():
                if not found.get("desired"):
                    # Another worker owns it now.
                    self.lag.remove(topic, partition)
                elif found.get("consumer_lag", -1) >= 0:
                    self.lag.labels(topic, partition).set(found["consumer_lag"])
