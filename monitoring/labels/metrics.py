"""Metrics of the label joiner; `docs/metrics.md` describes them. Durations are in seconds."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.runtime.metrics import register_process

DELAY_BUCKETS = (1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0)


class LabelJoinerMetrics:
    """Metrics that `inflight label-joiner` serves, besides those of live quality."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.labels = Counter(
            "inflight_labels",
            "Reported labels by result: joined, replaced, repeated, superseded, or the reason of their dead letter.",
            ["model", "result"],
            unit="labels",
            registry=registry,
        )
        self.pending = Gauge(
            "inflight_pending_labels",
            "Labels of this process's partitions whose request is not in the log yet.",
            unit="labels",
            registry=registry,
        )
        self.delay = Histogram(
            "inflight_label_delay_seconds",
            "Time from the acceptance of a request until its label was observed.",
            ["model"],
            unit="seconds",
            buckets=DELAY_BUCKETS,
            registry=registry,
        )
        self.lag = Gauge(
            "inflight_label_joiner_lag_records",
            "Labels of this process's partitions that it has not committed yet.",
            unit="records",
            registry=registry,
        )
        self.retries = Counter(
            "inflight_label_joiner_retries",
            "Requests to Elasticsearch that have to be sent again, by cause: an HTTP status or an error.",
            ["cause"],
            unit="retries",
            registry=registry,
        )
        register_process(registry)
