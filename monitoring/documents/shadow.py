"""`inference-shadows-*`: the answer of a rollout's shadow beside that of the version in service, as one document."""

from datetime import datetime

from msgspec import UNSET, Raw, Struct, UnsetType, field

from machine_learning_engineering.core.timestamps import to_utc
from machine_learning_engineering.events.schemas import PredictionShadowed
from machine_learning_engineering.rollout.comparison import compare, value_of
from monitoring.documents.common import ECS, SERVICE, ErrorFields, ModelFields, PlainEvent, digest, index_for
from monitoring.documents.log import RequestPosition

FAMILY = "shadows"
_EVENT = PlainEvent("event", "shadow", "inflight.shadows")


class ShadowFields(Struct, frozen=True):
    """What both versions answered.

    Predictions are JSON text, stored and not searchable; `value` and `shadow_value` are the numbers in them by which
    they are compared, `distance` how far apart these are, and `different` whether anything in the answers differs.
    """

    rollout_id: str
    role: str
    served_version: str
    version: str
    outcome: str
    served_seconds: float
    seconds: float | UnsetType = UNSET
    memory_bytes: int | UnsetType = UNSET
    prediction_text: str | UnsetType = UNSET
    shadow_prediction_text: str | UnsetType = UNSET
    value: float | UnsetType = UNSET
    shadow_value: float | UnsetType = UNSET
    distance: float | UnsetType = UNSET
    different: bool | UnsetType = UNSET


class InflightFields(Struct, frozen=True):
    """`inflight.*`. The version of `model` is the one in service."""

    request_id: str
    model: ModelFields
    completed_at: datetime
    kafka: RequestPosition
    shadow: ShadowFields


class ShadowDocument(Struct, frozen=True):
    """One document of `inference-shadows-*`; `@timestamp` is when the broker accepted the request."""

    timestamp: datetime = field(name="@timestamp")
    event: PlainEvent
    inflight: InflightFields
    error: ErrorFields | UnsetType = UNSET
    ecs: Raw = ECS
    service: Raw = SERVICE


def shadow_document(event: PredictionShadowed) -> tuple[str, str, ShadowDocument]:
    """Index, id and document of a shadow's answer. A request has one of each role in a rollout."""
    moment = to_utc(event.accepted_at)
    served, shadow = event.prediction, event.shadow_prediction
    difference = None if served is UNSET or shadow is UNSET else compare(bytes(served), bytes(shadow))
    document = ShadowDocument(
        timestamp=moment,
        event=_EVENT,
        error=UNSET if event.error is UNSET else ErrorFields(event.error.type, event.error.message),
        inflight=InflightFields(
            request_id=event.request_id,
            model=ModelFields(event.model, event.served_version),
            completed_at=to_utc(event.completed_at),
            kafka=RequestPosition(event.partition, event.offset, event.topic),
            shadow=ShadowFields(
                rollout_id=event.rollout_id,
                role=event.role,
                served_version=event.served_version,
                version=event.shadow_version,
                outcome=event.outcome,
                served_seconds=event.served_seconds,
                seconds=event.shadow_seconds,
                memory_bytes=event.memory_bytes,
                prediction_text=_text(served),
                shadow_prediction_text=_text(shadow),
                value=_number(served),
                shadow_value=_number(shadow),
                distance=UNSET if difference is None or difference.distance is None else difference.distance,
                different=UNSET if difference is None else difference.different,
            ),
        ),
    )
    return index_for(FAMILY, moment), digest(event.rollout_id, event.request_id, event.role), document


def _text(prediction: Raw | UnsetType) -> str | UnsetType:
    return UNSET if prediction is UNSET else bytes(prediction).decode(errors="replace")


def _number(prediction: Raw | UnsetType) -> float | UnsetType:
    value = None if prediction is UNSET else value_of(bytes(prediction))
    return value if isinstance(value, float) else UNSET
