"""Every metric of the joiner: `docs/metrics.md` describes each, and a test compares. Durations are in seconds."""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from monitoring.runtime.metrics import register_process

DELAY_BUCKETS = (1.0, 10.0, 60.0, 600.0, 3_600.0, 21_600.0, 86_400.0, 259_200.0, 604_800.0, 2_592_000.0)
_QUALITY = ["model", "model_version", "metric", "primary"]


class LabelJoinerMetrics:
    """How `inflight joiner` is doing, and how good live answers are."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.labels = Counter(
            "inflight_labels",
            "Reported labels by result: joined, replaced, repeated, superseded, or the reason of their dead letter.",
            ["model", "result"],
            unit="labels",
            registry=registry,
        )
        self.waiting = Gauge(
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
            "Requests to the search node that have to be sent again, by cause: an HTTP status or an error.",
            ["cause"],
            unit="retries",
            registry=registry,
        )
        self.quality = Gauge(
            "inflight_model_quality",
            "A metric of the newest labelled answers of a version, as its model defines it.",
            _QUALITY,
            registry=registry,
        )
        self.lower = Gauge(
            "inflight_model_quality_lower",
            "The lower end of the metric's 95 % confidence interval.",
            _QUALITY,
            registry=registry,
        )
        self.upper = Gauge(
            "inflight_model_quality_upper",
            "The upper end of the metric's 95 % confidence interval.",
            _QUALITY,
            registry=registry,
        )
        self.reference = Gauge(
            "inflight_model_quality_reference",
            "The same metric as the registry recorded it when the version was trained.",
            _QUALITY,
            registry=registry,
        )
        self.rows = Gauge(
            "inflight_model_quality_rows",
            "Labelled answers that the metrics of a version were measured on.",
            ["model", "model_version"],
            unit="rows",
            registry=registry,
        )
        self.measure = Histogram(
            "inflight_model_quality_measure_seconds",
            "Time to measure one version.",
            unit="seconds",
            registry=registry,
        )
        register_process(registry)
