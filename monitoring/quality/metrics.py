"""Metrics of live quality; `docs/metrics.md` describes them."""

from contextlib import suppress
from functools import partial

from prometheus_client import CollectorRegistry, Gauge, Histogram

from monitoring.model_version import ModelVersion
from monitoring.quality.evaluation import Evaluation

_LABELS = ["model", "model_version", "metric", "primary"]


class QualityMetrics:
    """Gauges of the last evaluation of each version, and the time that evaluations take."""

    def __init__(self, registry: CollectorRegistry) -> None:
        gauge = partial(Gauge, registry=registry)
        histogram = partial(Histogram, registry=registry)
        self.quality = gauge(
            "inflight_model_quality",
            "A metric of the newest labelled predictions of a version, as its model defines it.",
            _LABELS,
        )
        self.lower = gauge(
            "inflight_model_quality_lower", "Lower bound of the metric's 95 % confidence interval.", _LABELS
        )
        self.upper = gauge(
            "inflight_model_quality_upper", "Upper bound of the metric's 95 % confidence interval.", _LABELS
        )
        self.reference = gauge(
            "inflight_model_quality_reference",
            "The same metric when the version was trained, from the registry.",
            _LABELS,
        )
        self.rows = gauge(
            "inflight_model_quality_rows",
            "Labelled predictions that the metrics of a version were measured on.",
            ["model", "model_version"],
            unit="rows",
        )
        self.duration = histogram(
            "inflight_model_quality_measure_seconds", "Duration of the measurement of one version.", unit="seconds"
        )

    def set(self, version: ModelVersion, evaluation: Evaluation) -> list[tuple[str, ...]]:
        """Show an evaluation; the label values of its series, for `remove`."""
        series: list[tuple[str, ...]] = []
        for metric in evaluation.metrics:
            labels = (*version, metric.name, "true" if metric.name == evaluation.primary else "false")
            self.quality.labels(*labels).set(metric.value)
            self.lower.labels(*labels).set(metric.lower)
            self.upper.labels(*labels).set(metric.upper)
            if isinstance(metric.reference, float):
                self.reference.labels(*labels).set(metric.reference)
            series.append(labels)
        self.rows.labels(*version).set(evaluation.rows)
        return series

    def remove(self, version: ModelVersion, series: list[tuple[str, ...]]) -> None:
        """Remove the series of a version."""
        self.rows.remove(*version)
        for labels in series:
            for gauge in (self.quality, self.lower, self.upper, self.reference):
                with suppress(KeyError):  # not every metric has a reference
                    gauge.remove(*labels)
