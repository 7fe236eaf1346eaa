"""Every metric of the exporter and of the indexer: name, unit, labels and help, in one place.

`docs/metrics.md` describes each of them, and a test compares. Durations are in seconds. Nothing here is global: a
process makes the set that it serves, on a registry of its own.
"""

from collections.abc import Iterable
from typing import Generic, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.metrics import MetricWrapperBase

LATENCY_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
UNKNOWN = "unknown"
OTHER = "other"
"""Label value of what comes after the first `MAX_CHILDREN` combinations: a metric can't grow without bound."""
MAX_CHILDREN = 500

_M = TypeVar("_M", bound=MetricWrapperBase)


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


class IndexerMetrics:
    """How `inflight indexer` itself is doing."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.documents = Counter(
            "inflight_indexer_documents",
            "Documents by topic and result: created, replayed (was there already), or the reason of their dead letter.",
            ["topic", "result"],
            unit="documents",
            registry=registry,
        )
        self.retries = Counter(
            "inflight_indexer_retries",
            "Bulk requests, or parts of one, that have to be sent again, by cause: an HTTP status or an error.",
            ["cause"],
            unit="retries",
            registry=registry,
        )
        self.bulk = Histogram(
            "inflight_indexer_bulk_seconds",
            "Time of one bulk request that was answered.",
            unit="seconds",
            buckets=LATENCY_BUCKETS,
            registry=registry,
        )
        self.in_flight = Gauge(
            "inflight_indexer_in_flight_documents",
            "Records that were read and are not committed yet.",
            unit="documents",
            registry=registry,
        )
        self.lag = Gauge(
            "inflight_indexer_lag_records",
            "Records of this process's partitions, of all topics, that it has not committed yet.",
            unit="records",
            registry=registry,
        )
        self.deleted = Counter(
            "inflight_indexer_deleted_indices",
            "Daily indices that were deleted because their retention is over, by family.",
            ["family"],
            unit="indices",
            registry=registry,
        )
        register_process(registry)


def register_process(registry: CollectorRegistry) -> None:
    """Add what every process tells of itself: memory, CPU time, files, Python."""
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)


class Children(Generic[_M]):
    """The children of one metric by label values: cached, since a look-up costs more than counting, and bounded."""

    def __init__(self, metric: _M) -> None:
        self._metric = metric
        self._known: dict[tuple[str, ...], _M] = {}

    def __call__(self, *values: str) -> _M:
        child = self._known.get(values)
        if child is None:
            if len(self._known) >= MAX_CHILDREN:
                return self._metric.labels(*[OTHER for _ in values])
            child = self._known[values] = self._metric.labels(*values)
        return child


def declared(registry: CollectorRegistry) -> Iterable[tuple[str, str, str, str]]:
    """Name, type, unit and help of each metric of this product in a registry, for docs and tests."""
    for family in registry.collect():
        if family.name.startswith("inflight_"):
            yield family.name, family.type, family.unit, family.documentation
