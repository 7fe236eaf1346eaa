"""Metrics of live quality; `docs/metrics.md` describes them."""

from contextlib import suppress

from prometheus_client import CollectorRegistry, Gauge, Histogram

from monitoring.model_version import ModelVersion
from monitoring.quality.evaluation import Evaluation
from monitoring.runtime.metrics import Declare

_LABELS = ["model", "model_version", "metric", "primary"]


class QualityMetrics:
    """Gauges of the last evaluation of each version, and the time that evaluations take."""

    def __init__(self, registry: CollectorRegistry) -> None:
        metric = Declare(registry)
        text = "A metric of the newest labelled predictions of a version, as its model defines it."
        self.quality = Gauge("inflight_model_quality", text, _LABELS, registry=registry)
        text = "Lower bound of the metric's 95 % confidence interval."
        self.lower = Gauge("inflight_model_quality_lower", text, _LABELS, registry=registry)
        text = "Upper bound of the metric's 95 % confidence interval."
        self.upper = Gauge("inflight_model_quality_upper", text, _LABELS, registry=registry)
        text = "The same metric when the version was trained, from the registry."
        self.reference = Gauge("inflight_model_quality_reference", text, _LABELS, registry=registry)
        text = "Labelled predictions that the metrics of a version were measured on."
        self.rows = metric(Gauge, "inflight_model_quality_rows", text, "model", "model_version")
        text = "Duration of the measurement of one version."
        self.duration = metric(Histogram, "inflight_model_quality_measure_seconds", text)

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
        self.remove_series(series)

    def remove_series(self, series: list[tuple[str, ...]]) -> None:
        """Remove metrics of a version by their label values."""
        for labels in series:
            for gauge in (self.quality, self.lower, self.upper, self.reference):
                with suppress(KeyError):  # not every metric has a reference
                    gauge.remove(*labels)
