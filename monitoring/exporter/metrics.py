"""Metrics of the exporter; `docs/metrics.md` describes them. Durations are in seconds."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from machine_learning_engineering.events.unreadable import UNREADABLE_BATCH
from monitoring.runtime.consumer import ConsumerMetrics
from monitoring.runtime.groups import EXPORTER, READS
from monitoring.runtime.metrics import LATENCY_BUCKETS, UNKNOWN, Declare, register_process

OUTCOMES = ("completed", "failed")
MODEL_ERRORS = ("invalid_features", "prediction_error")
"""Types of error of a request for a model that exists."""
DEAD_LETTER_REASONS = {
    "decode": (
        "empty_value",
        "too_large",
        "not_utf8",
        "not_json",
        "invalid_request",
        "invalid_timestamp",
        UNREADABLE_BATCH,
    ),
    "index": (
        "index_rejected",
        "conflicting_duplicate",
        "undecodable_log",
        "undecodable_measurement",
        "undecodable_model_event",
        "undecodable_shadow",
        "undecodable_api_call",
        UNREADABLE_BATCH,
    ),
    "label": (
        "undecodable_label",
        "invalid_label",
        "wrong_model_label",
        "unmatched_label",
        "rejected_label",
        UNREADABLE_BATCH,
    ),
    UNKNOWN: (UNKNOWN,),
}
"""Reasons by stage. Each has a series with the value 0 from the start, so that `increase` sees the first burst."""


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
        text = "Requests of a rollout, by the arm that answered them and its outcome: completed or failed."
        self.rollout_requests = metric(Counter, "inflight_rollout_requests", text, "model", "arm", "outcome")
        name = "inflight_rollout_score_seconds"
        text = "Time to score the batch of a request in a rollout, by arm; in its shadow, that of the shadow, too."
        self.rollout_latency = metric(Histogram, name, text, "model", "arm", buckets=LATENCY_BUCKETS)
        text = "Requests that a shadow was given, by what it is and by its outcome: completed, failed or dropped."
        self.shadows = metric(Counter, "inflight_rollout_shadows", text, "model", "role", "outcome")
        text = "Requests of a rollout that its two versions have answered differently, by what the shadow is."
        self.different = metric(Counter, "inflight_rollout_different_answers", text, "model", "role")
        text = "Dead letters, by reason and by the stage that rejected the record."
        self.dead_letters = metric(Counter, "inflight_dead_letters", text, "reason", "stage")
        text = "Records of the log topic that are not log events; the indexer turns each into a dead letter."
        self.unreadable = metric(Counter, "inflight_exporter_unreadable_records", text)
        text = "Time since the newest observed request was completed; it grows while nothing is completed."
        self.log_age = metric(Gauge, "inflight_log_age_seconds", text)
        text = "Records of a topic that a consumer group has not committed yet."
        self.lag = metric(Gauge, "inflight_consumer_lag_records", text, "group", "topic")
        text = "Age of the oldest record that a consumer group has not committed; 0 if there is none."
        self.lag_age = metric(Gauge, "inflight_consumer_lag_seconds", text, "group", "topic")
        text = "Time for which records of a partition have waited while the group committed none of them."
        self.stalled = metric(Gauge, "inflight_consumer_stalled_seconds", text, "group", "topic")
        text = "Partitions of a topic of which a consumer group has committed an offset; 0 if it has never run."
        self.committed = metric(Gauge, "inflight_consumer_committed_partitions", text, "group", "topic")
        text = "Records that the retention of their topic deleted before the consumer group had read them."
        self.expired = metric(Counter, "inflight_consumer_expired_records", text, "group", "topic")
        text = "Time for which an open transaction has hidden records of a partition from all readers."
        self.open_transaction = metric(Gauge, "inflight_topic_open_transaction_seconds", text, "topic")
        text = "Partitions without a leader, or with replicas that are not in sync."
        self.under_replicated = metric(Gauge, "inflight_topic_under_replicated_partitions", text, "topic")
        text = "Age at which the broker deletes records of a topic; absent if it keeps them forever."
        self.retention = metric(Gauge, "inflight_topic_retention_seconds", text, "topic")
        text = "Time since the lag was last read from the broker; it grows while the broker is unreachable."
        self.lag_checked = metric(Gauge, "inflight_consumer_lag_age_seconds", text)
        self.consumer = ConsumerMetrics(registry, READS[EXPORTER])
        for stage, reasons in DEAD_LETTER_REASONS.items():
            for reason in reasons:
                self.dead_letters.labels(reason, stage)
        self.errors.labels(UNKNOWN, "unknown_model")
        for group, topics in READS.items():
            for topic in topics:
                self.expired.labels(group, topic)
        register_process(registry)

    def forget_lag(self) -> None:
        """Remove everything that is read from the broker and is not known any more."""
        for gauge in (
            self.lag,
            self.lag_age,
            self.stalled,
            self.committed,
            self.open_transaction,
            self.under_replicated,
        ):
            gauge.clear()
