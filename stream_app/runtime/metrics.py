"""The worker's own metrics: fetching, scoring, publishing, committing. Durations in seconds, sizes in bytes.

Metrics of the predictions, by model, come from `inflight exporter`, which derives them from the log.
"""

from functools import partial
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

from machine_learning_engineering.kafka.positions import OffsetReset
from stream_app.runtime.rollouts import FollowedRollouts
from stream_app.shadow.metrics import ShadowMetrics

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_RECORDS = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1_000, 2_000, 5_000, 10_000)


class WorkerMetrics:
    """The worker's metrics, in a registry of their own, so that one process can hold two workers.

    Any thread may update them. `lag` is set from librdkafka's statistics, the gauges by the watchdog, the rest by the
    scheduler.
    """

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        self._refused: set[str] = set()
        gauge = partial(Gauge, registry=self.registry)
        counter = partial(Counter, registry=self.registry)
        seconds = partial(Histogram, buckets=_SECONDS, registry=self.registry)
        outcomes = counter("inflight_worker_records", "Requests by outcome.", ["outcome"])
        self.completed = outcomes.labels("completed")
        self.failed = outcomes.labels("failed")
        self.dead_letters = outcomes.labels("dead_letter")
        text = "Requests scored together."
        self.batch_records = Histogram("inflight_worker_batch_records", text, buckets=_RECORDS, registry=self.registry)
        text = "Time to decode, predict and encode one batch."
        self.score_seconds = seconds("inflight_worker_score_seconds", text)
        text = "Time from publishing a batch's outputs until all are acknowledged."
        self.publish_seconds = seconds("inflight_worker_publish_seconds", text)
        text = "Partition batches being scored or published."
        self.in_flight_batches = gauge("inflight_worker_in_flight_batches", text)
        self.buffer_bytes = gauge("inflight_worker_buffer_bytes", "Memory of fetched requests without an outcome.")
        text = "Outputs that the broker has not acknowledged."
        self.unacknowledged = gauge("inflight_worker_unacknowledged_records", text)
        text = "Time for which the oldest unfinished batch has been the oldest one."
        self.oldest_batch_seconds = gauge("inflight_worker_oldest_batch_seconds", text)
        text = "Requests on the topic at or above the committed offset."
        self.lag = gauge("inflight_worker_lag_records", text, ["topic", "partition"])
        self.assigned = gauge("inflight_worker_assigned_partitions", "Partitions that this worker owns.")
        text = "Requests that were deleted, as by retention, before they were scored: they have no outcome."
        self.missing = counter("inflight_worker_requests_missing", text, ["partition"])
        text = "Times that a partition started again below its offset: the topic was deleted and created again."
        self.restarted = counter("inflight_worker_partitions_restarted", text, ["partition"])
        text = "Batches that the Kafka client could not unpack: each is one dead letter."
        self.unreadable = counter("inflight_worker_unreadable_batches", text, ["partition"])
        text = "Records of topics of others without a value: they ask for nothing."
        self.tombstones = counter("inflight_worker_source_tombstones", text, ["topic"])
        text = "Fields of events that no declaration names, in one of 256 records."
        self.unknown_fields = counter("inflight_worker_source_unknown_fields", text, ["topic"])
        text = "Replies sent to topics that requests name."
        self.replies = counter("inflight_worker_replies", text)
        text = "Replies that were not delivered; their results are on the topic of results."
        self.replies_lost = counter("inflight_worker_replies_lost", text)
        text = "1 for each model that is served."
        self.model = gauge("inflight_worker_model_info", text, ["model", "model_version"])
        text = "Promoted versions that could not be opened; the previous version stays in service."
        self.models_refused = counter("inflight_worker_models_refused", text)
        text = "1 while the promoted version of a model cannot be opened; the previous version stays in service."
        self.model_refused = gauge("inflight_worker_model_refused", text, ["model"])
        text = "1 while the registry cannot be read; the models stay as they are, or are those of its local cache."
        self.registry_unreadable = gauge("inflight_worker_registry_unreadable", text)
        text = "Accepted values that an adopted model did not expect."
        self.unusual_values = counter("inflight_worker_unusual_values", text, ["model", "feature", "reason"])
        text = "1 for each open rollout that is followed."
        labels = ["model", "stage", "champion", "challenger"]
        self.rollout = gauge("inflight_worker_rollout_info", text, labels)
        text = "Percentage of the keys that the challenger of a rollout answers."
        self.rollout_percent = gauge("inflight_worker_rollout_percent", text, ["model"])
        text = "1 while an open rollout cannot be followed: the champion answers alone."
        self.rollout_refused = gauge("inflight_worker_rollout_refused", text, ["model"])
        self.arm_records = counter("inflight_worker_arm_records", "Requests by arm of a rollout.", ["model", "arm"])
        self.shadows = ShadowMetrics(self.registry)
        # Memory, CPU time, and the time of the start, which shows restarts.
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)

    def on_arm(self, model: str, arm: str, requests: int) -> None:
        """Count requests that one arm of a rollout answers. In the scoring thread."""
        self.arm_records.labels(model, arm).inc(requests)

    def show_rollouts(self, rollouts: FollowedRollouts) -> None:
        """Show the rollouts that are followed, and those that can't be."""
        self.rollout.clear()
        self.rollout_percent.clear()
        for name, arms in rollouts.arms.items():
            found = arms.rollout
            self.rollout.labels(name, found.stage, found.champion, found.challenger).set(1)
            self.rollout_percent.labels(name).set(arms.percent)
            # With the value 0: `increase` does not see the first value of a series.
            for arm in ("champion", "challenger"):
                self.arm_records.labels(name, arm)
        for name in rollouts.open.keys() | rollouts.problems.keys() | self._refused:
            self.rollout_refused.labels(name).set(name in rollouts.problems)
            self._refused.add(name)

    def on_reset(self, reset: OffsetReset) -> None:
        """Count a partition that is read from another offset than the next one. In the poller's thread."""
        self.missing.labels(reset.partition).inc(reset.missing)
        self.restarted.labels(reset.partition).inc(reset.restarted)

    def on_unreadable(self, partition: int) -> None:
        """Count a batch that could not be unpacked. In the poller's thread."""
        self.unreadable.labels(partition).inc()

    def on_statistics(self, statistics: dict[str, Any]) -> None:
        """Set the lag from librdkafka's statistics, in records (-1 means not known yet). In the poller's thread.

        Counters of partitions begin here, too.
        """
        for topic, of_topic in statistics.get("topics", {}).items():
            for partition, found in of_topic.get("partitions", {}).items():
                if not found.get("desired"):
                    # Another worker owns it now.
                    self.lag.remove(topic, partition)
                    continue
                # With the value 0: `increase` does not see the first value of a series.
                for metric in (self.missing, self.restarted, self.unreadable):
                    metric.labels(int(partition))
                if found.get("consumer_lag", -1) >= 0:
                    self.lag.labels(topic, partition).set(found["consumer_lag"])
