"""`inference-drift-*`: a window of requests compared with the reference, one document for each field of the window."""

from collections.abc import Iterator
from datetime import datetime

from msgspec import UNSET, Raw, Struct, UnsetType, field

from machine_learning_engineering.events.schemas import DriftMeasured
from monitoring.documents.common import ECS, SERVICE, ModelFields, ModelInference, PlainEvent, daily_index, digest

FAMILY = "drift"


class WindowFields(Struct, frozen=True):
    """The requests that were compared; `id` is the same for all fields of a window."""

    id: str
    start: datetime
    end: datetime
    closed_by: str


class DriftFields(Struct, frozen=True):
    """One field of a window, as `events.DriftMeasured` and `events.FieldDrift` have it."""

    window: WindowFields
    rows: int
    significance: float
    min_psi: float
    field: str
    kind: str
    statistic: str
    psi: float
    p_value: float
    p_adjusted: float
    drifted: bool
    missing_rate: float
    unseen_rate: float
    out_of_range_rate: float
    reference_missing_rate: float
    detail: str | UnsetType = UNSET


class DriftDocument(Struct, frozen=True):
    """One document of `inference-drift-*`; its moment is the end of the window."""

    timestamp: datetime = field(name="@timestamp")
    inference: ModelInference
    drift: DriftFields
    event: PlainEvent = PlainEvent("metric", "drift_measured", "inflight.drift")
    ecs: Raw = ECS
    service: Raw = SERVICE


def drift_documents(event: DriftMeasured) -> Iterator[tuple[str, str, DriftDocument]]:
    """Index, id and document of each field. The same window measured again has the same ids."""
    index = daily_index(FAMILY, event.window_end)
    inference = ModelInference(ModelFields(event.model, event.model_version))
    window = WindowFields(event.window_id, event.window_start, event.window_end, event.closed_by)
    for found in event.fields:
        fields = DriftFields(
            window=window,
            rows=event.rows,
            significance=event.significance,
            min_psi=event.min_psi,
            field=found.field,
            kind=found.kind,
            statistic=found.statistic,
            psi=found.psi,
            p_value=found.p_value,
            p_adjusted=found.p_adjusted,
            drifted=found.drifted,
            missing_rate=found.missing_rate,
            unseen_rate=found.unseen_rate,
            out_of_range_rate=found.out_of_range_rate,
            reference_missing_rate=found.reference_missing_rate,
            detail=found.detail or UNSET,
        )
        identity = digest(event.model, event.model_version, event.window_id, found.field)
        yield index, identity, DriftDocument(event.window_end, inference, fields)
