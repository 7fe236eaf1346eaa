"""`inference-drift-*`: a window of requests compared with the reference, one document per field of the window."""

from collections.abc import Iterator
from datetime import datetime

from msgspec import Struct
from msgspec.structs import asdict

from machine_learning_engineering.core.timestamps import to_utc
from machine_learning_engineering.events.schemas import DriftMeasured, FieldDrift
from monitoring.documents.common import ModelFields, PlainDocument, PlainEvent, digest, index_for

FAMILY = "drift"


class WindowFields(Struct, frozen=True):
    """The window that was compared; all its fields share the `id`."""

    id: str
    start: datetime
    end: datetime
    closed_by: str


class DriftFields(FieldDrift, frozen=True, kw_only=True, omit_defaults=True):
    """One field of a window, from `DriftMeasured` and its `FieldDrift`."""

    window: WindowFields
    rows: int
    significance: float
    min_psi: float


class InflightFields(Struct, frozen=True):
    """`inflight.*`."""

    model: ModelFields
    drift: DriftFields


DriftDocument = PlainDocument[InflightFields]
"""One document of `inference-drift-*`; `@timestamp` is the end of the window."""
_EVENT = PlainEvent("metric", "drift_measured", "inflight.drift")


def drift_documents(event: DriftMeasured) -> Iterator[tuple[str, str, DriftDocument]]:
    """Index, id and document per field. The same window measured again has the same ids."""
    index = index_for(FAMILY, event.window_end)
    model = ModelFields(event.model, event.model_version)
    end = to_utc(event.window_end)
    window = WindowFields(event.window_id, to_utc(event.window_start), end, event.closed_by)
    for measured in event.fields:
        fields = DriftFields(
            window=window,
            rows=event.rows,
            significance=event.significance,
            min_psi=event.min_psi,
            **asdict(measured),
        )
        identity = digest(event.model, event.model_version, event.window_id, measured.field)
        yield index, identity, DriftDocument(end, _EVENT, InflightFields(model, fields))
