"""`inference-model-events-*`: promotions, and windows that drifted, one document for each."""

from datetime import datetime

from msgspec import UNSET, Raw, Struct, UnsetType, field

from machine_learning_engineering.events.schemas import DriftDetected, ModelEvent, ModelPromoted
from monitoring.documents.common import ECS, SERVICE, ModelFields, ModelInference, PlainEvent, daily_index, digest

FAMILY = "model-events"
DATASET = "inflight.model-events"


class ModelEventFields(Struct, frozen=True):
    """What is known of the event: `previous_version` and `reason` of a promotion, the others of a drift."""

    previous_version: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    rows: int | UnsetType = UNSET
    fields: tuple[str, ...] | UnsetType = UNSET
    window_id: str | UnsetType = UNSET


class ModelEventDocument(Struct, frozen=True):
    """One document of `inference-model-events-*`."""

    timestamp: datetime = field(name="@timestamp")
    event: PlainEvent
    inference: ModelInference
    model_event: ModelEventFields
    ecs: Raw = ECS
    service: Raw = SERVICE


def model_event_document(event: ModelEvent) -> tuple[str, str, ModelEventDocument]:
    """Index, id and document of an event."""
    inference = ModelInference(ModelFields(event.model, event.model_version))
    match event:
        case ModelPromoted():
            action, moment = "model_promoted", event.promoted_at
            about = ModelEventFields(previous_version=event.previous_version, reason=event.reason)
            identity = digest(action, event.model, event.model_version, moment.timestamp())
        case DriftDetected():
            action, moment = "drift_detected", event.detected_at
            names = tuple(found.field for found in event.fields)
            about = ModelEventFields(rows=event.rows, fields=names, window_id=event.window_id)
            identity = digest(action, event.model, event.model_version, event.window_id)
    document = ModelEventDocument(moment, PlainEvent("event", action, DATASET), inference, about)
    return daily_index(FAMILY, moment), identity, document
