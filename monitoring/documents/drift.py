"""`inference-drift-*`: a window of requests compared with the reference, one document per field of the window."""

from collections.abc import Iterator
from datetime import datetime

from msgspec import UNSET, Raw, Struct, UnsetType, field
from msgspec.structs import asdict

from machine_learning_engineering.events.schemas import DriftMeasured
from monitoring.documents.common import ECS, SERVICE, ModelFields, PlainEvent, daily_index, digest

FAMILY = "drift"


class WindowFields(Struct, frozen=True):
    """The window that was compared; all its fields share the `id`."""

    id: str
    start: datetime
    end: datetime
    closed_by: str


class DriftFields(Struct, frozen=True):
    """One field of a window, from `DriftMeasured` and its `FieldDrift`."""

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


class InflightFields(Struct, frozen=True):
    """`inflight.*`."""

    model: ModelFields
    drift: DriftFields


class DriftDocument(Struct, frozen=True):
    """One document of `inference-drift-*`; `@timestamp` is the end of the window."""

    timestamp: datetime = field(name="@timestamp")
    inflight: InflightFields
    event: PlainEvent = PlainEvent("metric", "drift_measured", "inflight.drift")
    ecs: Raw = ECS
    service: Raw = SERVICE


def drift_documents(event: DriftMeasured) -> Iterator[tuple[str, str, DriftDocument]]:
    """Index, id and document per field. The same window measured again has the same ids."""
    index = daily_index(FAMILY, event.window_end)
    model = ModelFields(event.model, event.model_version)
    window = WindowFields(event.window_id, event.window_start, event.window_end, event.closed_by)
    for measured in event.fields:
        fields = DriftFields(
            window=window,
            rows=event.rows,
            significance=event.significance,
            min_psi=event.min_psi,
            **asdict(measured) | {"detail": measured.detail or UNSET},
        )
        identity = digest(event.model, event.model_version, event.window_id, measured.field)
        yield index, identity, DriftDocument(event.window_end, InflightFields(model, fields))
