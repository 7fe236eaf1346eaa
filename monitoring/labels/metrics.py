"""Metrics of the label joiner; `docs/metrics.md` describes them. Durations are in seconds."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.labels.reports import INVALID, REJECTED, UNDECODABLE, UNMATCHED, WRONG_MODEL
from monitoring.runtime.consumer import ConsumerMetrics
from monitoring.runtime.groups import LABEL_JOINER, READS
from monitoring.runtime.metrics import UNKNOWN, Declare, register_process

DELAY_BUCKETS = (1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0)

RESULTS = ("joined", "replaced", "repeated", "superseded", REJECTED, WRONG_MODEL)
"""Results of labels whose request, and so its model, is known."""
REASONS = (UNDECODABLE, INVALID, WRONG_MODEL, UNMATCHED, REJECTED)
"""Reasons of dead letters."""


class LabelJoinerMetrics:
    """Metrics that `inflight label-joiner` serves, besides those of live quality."""

    def __init__(self, registry: CollectorRegistry) -> None:
        metric = Declare(registry)
        text = "Reported labels by result: joined, replaced, repeated, superseded, or the reason of their dead letter."
        self.labels = metric(Counter, "inflight_labels", text, "model", "result")
        text = "Labels of this process's partitions whose request is not in the log yet."
        self.pending = metric(Gauge, "inflight_pending_labels", text)
        text = "Time from the acceptance of a request until its label was observed."
        self.delay = metric(Histogram, "inflight_label_delay_seconds", text, "model", buckets=DELAY_BUCKETS)
        text = "Retries of requests to Elasticsearch, by cause: an HTTP status or an error."
        self.retries = metric(Counter, "inflight_label_joiner_retries", text, "cause")
        self.consumer = ConsumerMetrics(registry, READS[LABEL_JOINER])
        for reason in REASONS:
            self.labels.labels(UNKNOWN, reason)
        register_process(registry)
