"""`inference-model-events-*`: promotions, drifted windows and steps of rollouts, one document each."""

from msgspec import UNSET, Struct, UnsetType

from machine_learning_engineering.core.timestamps import to_utc
from machine_learning_engineering.events.schemas import DriftDetected, ModelEvent, ModelPromoted, RolloutChanged
from monitoring.documents.common import ModelFields, PlainDocument, PlainEvent, digest, index_for

FAMILY = "model-events"


class ModelEventFields(Struct, frozen=True):
    """`previous_version` and `reason` of a promotion; `rows` to `window_id` of a drifted window.

    A step of a rollout has the others, and the champion as `previous_version`.
    """

    previous_version: str | UnsetType = UNSET
    reason: str | UnsetType = UNSET
    rows: int | UnsetType = UNSET
    fields: tuple[str, ...] | UnsetType = UNSET
    window_id: str | UnsetType = UNSET
    rollout_id: str | UnsetType = UNSET
    step: int | UnsetType = UNSET
    action: str | UnsetType = UNSET
    by: str | UnsetType = UNSET
    stage: str | UnsetType = UNSET
    percent: int | UnsetType = UNSET


class InflightFields(Struct, frozen=True):
    """`inflight.*`."""

    model: ModelFields
    model_event: ModelEventFields


ModelEventDocument = PlainDocument[InflightFields]
"""One document of `inference-model-events-*`."""


def model_event_document(event: ModelEvent) -> tuple[str, str, ModelEventDocument]:
    """Index, id and document of an event."""
    version = event.challenger if isinstance(event, RolloutChanged) else event.model_version
    model = ModelFields(event.model, version)
    match event:
        case RolloutChanged():
            action, moment = "rollout_changed", to_utc(event.changed_at)
            fields = ModelEventFields(
                previous_version=event.champion,
                reason=event.reason,
                rollout_id=event.rollout_id,
                step=event.step,
                action=event.action,
                by=event.by,
                stage=event.stage,
                percent=event.percent,
            )
            identity = digest(action, event.model, event.rollout_id, event.step)
        case ModelPromoted():
            action, moment = "model_promoted", to_utc(event.promoted_at)
            fields = ModelEventFields(previous_version=event.previous_version, reason=event.reason)
            identity = digest(action, event.model, event.model_version, moment.timestamp())
        case DriftDetected():
            action, moment = "drift_detected", to_utc(event.detected_at)
            names = tuple(field.field for field in event.fields)
            fields = ModelEventFields(rows=event.rows, fields=names, window_id=event.window_id)
            identity = digest(action, event.model, event.model_version, event.window_id)
    document = ModelEventDocument(
        moment, PlainEvent("event", action, "inflight.model_events"), InflightFields(model, fields)
    )
    return index_for(FAMILY, moment), identity, document
