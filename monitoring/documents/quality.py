"""`inference-quality-*`: live quality of a model version, one document per metric of a measurement."""

from collections.abc import Iterator

from msgspec import UNSET, Struct, UnsetType

from machine_learning_engineering.core.timestamps import to_utc
from machine_learning_engineering.events.schemas import QualityMeasured
from monitoring.documents.common import ModelFields, Period, PlainDocument, PlainEvent, digest, index_for

FAMILY = "quality"


class QualityFields(Struct, frozen=True):
    """One metric with its confidence interval, from `QualityMeasured` and its `LiveMetric`."""

    metric: str
    value: float
    lower: float
    upper: float
    rows: int
    confidence: float
    window: Period
    reference: float | UnsetType = UNSET


class InflightFields(Struct, frozen=True):
    """`inflight.*`."""

    model: ModelFields
    quality: QualityFields


QualityDocument = PlainDocument[InflightFields]
"""One document of `inference-quality-*`; `@timestamp` is the time of the measurement."""
_EVENT = PlainEvent("metric", "quality_measured", "inflight.quality")


def quality_documents(event: QualityMeasured) -> Iterator[tuple[str, str, QualityDocument]]:
    """Index, id and document per metric. A later measurement of the same window has other ids."""
    index = index_for(FAMILY, event.measured_at)
    model = ModelFields(event.model, event.model_version)
    measured_at = to_utc(event.measured_at)
    window = Period(to_utc(event.window_start), to_utc(event.window_end))
    for metric in event.metrics:
        fields = QualityFields(
            metric=metric.name,
            value=metric.value,
            lower=metric.lower,
            upper=metric.upper,
            rows=event.rows,
            confidence=event.confidence,
            window=window,
            reference=metric.reference,
        )
        moments = (window.start, window.end, measured_at)
        identity = digest(event.model, event.model_version, *(moment.timestamp() for moment in moments), metric.name)
        yield index, identity, QualityDocument(measured_at, _EVENT, InflightFields(model, fields))
