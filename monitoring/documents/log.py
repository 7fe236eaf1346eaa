"""`inference-logs-*`: one log event as one document; fields that ECS does not define are below `inflight`."""

from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from machine_learning_engineering.core.json_values import canonical_json, is_deeper
from machine_learning_engineering.events.fingerprint import fingerprint_of_canonical
from machine_learning_engineering.events.schemas import PredictionLogged
from machine_learning_engineering.observability.trace import trace_ids
from monitoring.documents.common import ECS, SERVICE, ErrorFields, Id, ModelFields, Position, daily_index

FAMILY = "logs"
INDEX_PATTERN = f"inference-{FAMILY}-*"

MAX_ID_BYTES = 512
"""Elasticsearch rejects a longer `_id`."""
# Elasticsearch rejects a `flattened` field that is deeper than its mapping's depth limit (20), or one of whose terms
# (the path of keys and the value together) has more than 32,766 bytes.
_MAX_NESTING = 20
_MAX_FLATTENED_BYTES = 32_000


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


class InflightFields(Struct, frozen=True):
    """`inflight.*`. Durations are in seconds; `fingerprint` tells a replay from another request.

    `kafka` is the position of the request; unset if it did not come from a topic. `label` is the label as JSON text,
    once it is known; `label_observed_at` is when it was observed, `label_source` who reported it, and `labelled` is
    true then. `redacted` names the features that are not stored as sent.
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
    kafka: Position | UnsetType
    fingerprint: str
    features: Raw | UnsetType = UNSET
    features_text: str | UnsetType = UNSET
    prediction: Raw | UnsetType = UNSET
    label: str | UnsetType = UNSET
    label_observed_at: datetime | UnsetType = UNSET
    label_source: str | UnsetType = UNSET
    labelled: bool | UnsetType = UNSET
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
    return daily_index(FAMILY, accepted_at)


def document_id(request_id: str) -> str:
    """The request's id, or its digest where the id is too long for Elasticsearch."""
    encoded = request_id.encode()
    return request_id if len(encoded) <= MAX_ID_BYTES else "blake2b-" + blake2b(encoded, digest_size=32).hexdigest()


def _fits_flattened(plain: bytes) -> bool:
    """Whether Elasticsearch accepts this JSON as a `flattened` field, whose keys can't contain NUL."""
    if not plain.startswith(b"{") or len(plain) > _MAX_FLATTENED_BYTES or b"\\u0000" in plain:
        return False
    return not is_deeper(plain, _MAX_NESTING)


def to_fields(event: PredictionLogged) -> Document:
    """The document of an event.

    Features that a model could read are searchable. Others may be anything (an array, a megabyte, a thousand levels
    deep) and must not make Elasticsearch reject the document: they are stored as text that is not indexed. So are
    readable features that exceed the limits of a `flattened` field.
    """
    error = event.error
    plain = canonical_json(event.features)
    readable = error is UNSET or error.type == "prediction_error"
    searchable = plain is not None and readable and _fits_flattened(plain)
    trace = trace_ids(event.traceparent)
    return Document(
        timestamp=event.accepted_at,
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
            requested_at=event.requested_at,
            completed_at=event.completed_at,
            queue_seconds=event.queue_seconds,
            score_seconds=event.score_seconds,
            total_seconds=event.total_seconds,
            batch_size=event.batch_size,
            kafka=Position(event.partition, event.offset),
            fingerprint=fingerprint_of_canonical(event.model, plain or bytes(event.features)),
            features=Raw(plain) if plain is not None and searchable else UNSET,
            features_text=UNSET if searchable else bytes(event.features).decode(errors="replace"),
            prediction=event.prediction,
            redacted=event.redacted,
        ),
    )


def encode(document: Document) -> bytes:
    """The document as one line of JSON, as the bulk format needs it."""
    line = _ENCODER.encode(document)
    # Only a raw prediction can contain a line break, as white space between its tokens.
    return msgspec.json.format(line, indent=-1) if b"\n" in line else line


def to_document(event: PredictionLogged) -> bytes:
    """The document of an event as one line of JSON."""
    return encode(to_fields(event))


def label_fields(label: str, observed_at: datetime, source: str = "") -> dict[str, Any]:
    """The fields of `inflight.*` that a label (JSON text) adds to a document."""
    return {"label": label, "label_observed_at": observed_at, "label_source": source, "labelled": True}
