"""Metrics of the label joiner; `docs/metrics.md` describes them. Durations are in seconds."""

from functools import partial

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.runtime.metrics import register_process

DELAY_BUCKETS = (1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0)


class LabelJoinerMetrics:
    """Metrics that `inflight label-joiner` serves, besides those of live quality."""

    def __init__(self, registry: CollectorRegistry) -> None:
        counter = partial(Counter, registry=registry)
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.labels = counter(
            "inflight_labels",
            "Reported labels by result: joined, replaced, repeated, superseded, or the reason of their dead letter.",
            ["model", "result"],
            unit="labels",
        )
        self.pending = gauge(
            "inflight_pending_labels",
            "Labels of this process's partitions whose request is not in the log yet.",
            unit="labels",
        )
        self.delay = histogram(
            "inflight_label_delay_seconds",
            "Time from the acceptance of a request until its label was observed.",
            ["model"],
            unit="seconds",
            buckets=DELAY_BUCKETS,
        )
        self.lag = gauge(
            "inflight_label_joiner_lag_records",
            "Uncommitted labels of this process's partitions.",
            unit="records",
        )
        self.retries = counter(
            "inflight_label_joiner_retries",
            "Retries of requests to Elasticsearch, by cause: an HTTP status or an error.",
            ["cause"],
            unit="retries",
        )
        register_process(registry)
