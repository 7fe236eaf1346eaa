"""`inference-logs-*`: one log event as one document; fields that ECS does not define are below `inflight`."""

from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from machine_learning_engineering.core.json_values import canonical_json
from machine_learning_engineering.core.timestamps import to_utc
from machine_learning_engineering.events.fingerprint import fingerprint_of_canonical
from machine_learning_engineering.events.schemas import PredictionLogged, RolloutArm
from machine_learning_engineering.observability.trace import trace_ids
from monitoring.documents.common import ECS, SERVICE, ErrorFields, Id, ModelFields, index_for
from monitoring.documents.searchable import fits_flattened, searchable_part

FAMILY = "logs"
INDEX_PATTERN = f"inference-{FAMILY}-*"

MAX_ID_BYTES = 512
"""Elasticsearch rejects a longer `_id`."""
_DIGEST = "blake2b-"


class EventFields(Struct, frozen=True):
    """ECS `event.*`. `duration` is in nanoseconds, from acceptance to completion."""

    outcome: str
    duration: int
    kind: str = "event"
    category: tuple[str, ...] = ("api",)
    type: tuple[str, ...] = ("info",)
    action: str = "prediction"
    module: str = "inflight"
    dataset: str = "inflight.inference"


class RequestPosition(Struct, frozen=True):
    """Position of a request; `topic` is set if it is one of others."""

    partition: int
    offset: int
    topic: str | UnsetType = UNSET


class RolloutFields(Struct, frozen=True):
    """Which arm of which rollout answered, as it was at scoring time."""

    id: str
    arm: str
    champion: str
    challenger: str
    percent: int
    salt: str


class InflightFields(Struct, frozen=True):
    """`inflight.*`. Durations are in seconds; `fingerprint` tells a replay from another request.

    `prediction` holds what Elasticsearch can index of the prediction; if that is not all of it, `prediction_text` is
    the whole. `kafka` is the position of the request; unset if it did not come from a
    topic. `label` is the label as JSON
    text, once it is known; `label_observed_at` is when it was observed, `label_reported_at` when it was reported,
    `label_source` who reported it, and `labelled` is true then. `redacted` names the features that are not stored as
    sent.
    """

    request_id: str
    model: ModelFields
    outcome: str
    requested_at: datetime
    completed_at: datetime
    queue_seconds: float
    score_seconds: float
    total_seconds: float
    batch_size: int
    kafka: RequestPosition | UnsetType
    fingerprint: str
    features: Raw | UnsetType = UNSET
    features_text: str | UnsetType = UNSET
    prediction: Raw | UnsetType = UNSET
    prediction_text: str | UnsetType = UNSET
    label: str | UnsetType = UNSET
    label_observed_at: datetime | UnsetType = UNSET
    label_reported_at: datetime | UnsetType = UNSET
    label_source: str | UnsetType = UNSET
    labelled: bool | UnsetType = UNSET
    rollout: RolloutFields | UnsetType = UNSET
    redacted: list[str] | UnsetType = UNSET


class Document(Struct, frozen=True):
    """One document of `inference-logs-*`."""

    timestamp: datetime = field(name="@timestamp")
    event: EventFields
    inflight: InflightFields
    error: ErrorFields | UnsetType = UNSET
    trace: Id | UnsetType = UNSET
    span: Id | UnsetType = UNSET
    ecs: Raw = ECS
    service: Raw = SERVICE


_ENCODER = msgspec.json.Encoder()


def index_name(accepted_at: datetime) -> str:
    """The index of the UTC day on which the request was accepted: a replay goes to the same index."""
    return index_for(FAMILY, accepted_at)


def document_id(request_id: str) -> str:
    """The request's id, or its digest where the id is too long for Elasticsearch.

    An id that looks like a digest is digested, too: else its sender could take the document of a long one.
    """
    encoded = request_id.encode()
    if len(encoded) <= MAX_ID_BYTES and not request_id.startswith(_DIGEST):
        return request_id
    return _DIGEST + blake2b(encoded, digest_size=32).hexdigest()


def to_fields(event: PredictionLogged) -> Document:
    """The document of an event.

    Features that a model could read are searchable. Others may be anything (an array, a megabyte, a thousand levels
    deep) and must not make Elasticsearch reject the document: they are stored as text that is not indexed. So are
    readable features that exceed the limits of a `flattened` field, and predictions that can't be fields of their own.
    Times are in UTC: Elasticsearch rejects an offset of more than 18 hours.
    """
    error, arm = event.error, event.rollout
    plain = canonical_json(event.features)
    readable = error is UNSET or error.type == "prediction_error"
    searchable = plain is not None and readable and fits_flattened(plain)
    prediction = b"" if event.prediction is UNSET else bytes(event.prediction)
    part, complete = searchable_part(prediction) if prediction else (None, True)
    trace = trace_ids(event.traceparent)
    return Document(
        # The broker's time, and it names the index: one that is out of range is an error.
        timestamp=event.accepted_at.astimezone(UTC),
        event=EventFields(
            outcome="success" if event.outcome == "completed" else "failure",
            duration=round(event.total_seconds * 1e9),
        ),
        error=UNSET if error is UNSET else ErrorFields(error.type, error.message),
        trace=UNSET if trace is None else Id(trace[0]),
        span=UNSET if trace is None else Id(trace[1]),
        inflight=InflightFields(
            request_id=event.request_id,
            model=ModelFields(event.model, event.model_version),
            outcome=event.outcome,
            requested_at=to_utc(event.requested_at),
            completed_at=to_utc(event.completed_at),
            queue_seconds=event.queue_seconds,
            score_seconds=event.score_seconds,
            total_seconds=event.total_seconds,
            batch_size=event.batch_size,
            kafka=RequestPosition(event.partition, event.offset, event.topic),
            fingerprint=fingerprint_of_canonical(event.model, plain or bytes(event.features)),
            features=Raw(plain) if plain is not None and searchable else UNSET,
            features_text=UNSET if searchable else bytes(event.features).decode(errors="replace"),
            prediction=UNSET if part is None else Raw(part),
            prediction_text=UNSET if complete else prediction.decode(errors="replace"),
            redacted=event.redacted,
            rollout=UNSET if arm is UNSET else _rollout(arm),
        ),
    )


def _rollout(arm: RolloutArm) -> RolloutFields:
    return RolloutFields(arm.rollout_id, arm.arm, arm.champion, arm.challenger, arm.percent, arm.salt)


def encode(document: Document) -> bytes:
    """The document as one line of JSON, as the bulk format needs it: its raw parts are canonical."""
    return _ENCODER.encode(document)


def to_document(event: PredictionLogged) -> bytes:
    """The document of an event as one line of JSON."""
    return encode(to_fields(event))


def label_fields(label: str, observed_at: datetime, reported_at: datetime, source: str = "") -> dict[str, Any]:
    """The fields of `inflight.*` that a label (JSON text) adds to a document."""
    return {
        "label": label,
        "label_observed_at": observed_at,
        "label_reported_at": reported_at,
        "label_source": source,
        "labelled": True,
    }
