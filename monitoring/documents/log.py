"""`inference-logs-*`: one log event as one document, with the object `inference` for what ECS has no name for."""

from datetime import datetime
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec import UNSET, Raw, Struct, UnsetType, field

from machine_learning_engineering.events.schemas import PredictionLogged
from monitoring.documents.common import ECS, SERVICE, ErrorFields, Id, ModelFields, daily_index, trace_ids

FAMILY = "logs"
INDEX_PREFIX = f"inference-{FAMILY}-"
INDEX_PATTERN = INDEX_PREFIX + "*"
DATASET = "inflight.inference"

MAX_ID_BYTES = 512
"""Elasticsearch refuses a longer `_id`."""
# Elasticsearch refuses a `flattened` field that is deeper than its mapping's depth limit (20), or one of whose terms
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
    dataset: str = DATASET


class KafkaFields(Struct, frozen=True):
    """Where the request record is: partition and offset in the topic of requests."""

    partition: int
    offset: int


class InferenceFields(Struct, frozen=True):
    """What ECS has no name for. Durations are in seconds; `fingerprint` tells a replay from another request.

    `kafka` is unset where the request did not come from a topic. `label` is the true answer as JSON text, once it is
    known, `label_observed_at` when it was seen, and `labelled` then is true. `redacted` names the features
    that are not here as they were sent.
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
    kafka: KafkaFields | UnsetType
    fingerprint: str
    features: Raw | UnsetType = UNSET
    features_text: str | UnsetType = UNSET
    prediction: Raw | UnsetType = UNSET
    label: str | UnsetType = UNSET
    label_observed_at: datetime | UnsetType = UNSET
    labelled: bool | UnsetType = UNSET
    redacted: list[str] | UnsetType = UNSET


class Document(Struct, frozen=True):
    """One document of `inference-logs-*`."""

    timestamp: datetime = field(name="@timestamp")
    event: EventFields
    inference: InferenceFields
    error: ErrorFields | UnsetType = UNSET
    trace: Id | UnsetType = UNSET
    span: Id | UnsetType = UNSET
    ecs: Raw = ECS
    service: Raw = SERVICE


_ENCODER = msgspec.json.Encoder()
_CANONICAL = msgspec.json.Encoder(order="deterministic")
_decode = msgspec.json.Decoder().decode


def canonical(features: Raw) -> bytes | None:
    """The same JSON value in one spelling: keys sorted, no white space, a repeated key once; None if it can't be read.

    That a record's JSON could be decoded does not mean that a raw part of it can: numbers out of range, wrong UTF-8.
    """
    try:
        return _CANONICAL.encode(_decode(features))
    except (ValueError, RecursionError):
        return None


def fingerprint(model: str, features: Raw) -> str:
    """What a request asks, in 32 hexadecimal digits: the same for the same model and an equal JSON value."""
    return _fingerprint(model, canonical(features), features)


def _fingerprint(model: str, plain: bytes | None, features: Raw) -> str:
    digest = blake2b(model.encode(), digest_size=16)
    digest.update(b"\0" + (bytes(features) if plain is None else plain))
    return digest.hexdigest()


def index_name(accepted_at: datetime) -> str:
    """The index of the UTC day on which the request was accepted, so that a replay meets the same index."""
    return daily_index(FAMILY, accepted_at)


def document_id(request_id: str) -> str:
    """The request's id, or its digest where the id is too long for Elasticsearch."""
    encoded = request_id.encode()
    return request_id if len(encoded) <= MAX_ID_BYTES else "blake2b-" + blake2b(encoded, digest_size=32).hexdigest()


def _fits_flattened(plain: bytes) -> bool:
    """Whether Elasticsearch takes this JSON as a `flattened` field, whose keys can't hold a NUL."""
    if not plain.startswith(b"{") or len(plain) > _MAX_FLATTENED_BYTES or b"\\u0000" in plain:
        return False
    # Few brackets can't be deep; only for many is it worth looking how they nest.
    return plain.count(b"{") + plain.count(b"[") <= _MAX_NESTING or depth(_decode(plain)) <= _MAX_NESTING


def depth(value: Any) -> int:
    """How many containers deep a JSON value is, by level: recursion would fail on the deepest."""
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
    return depth


def to_fields(event: PredictionLogged) -> Document:
    """The document of an event.

    Features that the model has understood are searchable. Those that it has not may be anything (an array, a megabyte,
    a thousand levels deep) and must not make Elasticsearch refuse the document, so they are kept as a text that is
    only stored. The same goes for understood ones that are beyond what a `flattened` field can hold.
    """
    error = event.error
    plain = canonical(event.features)
    understood = error is UNSET or error.type == "prediction_error"
    searchable = plain is not None and understood and _fits_flattened(plain)
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
        inference=InferenceFields(
            request_id=event.request_id,
            model=ModelFields(event.model, event.model_version),
            outcome=event.outcome,
            requested_at=event.requested_at,
            completed_at=event.completed_at,
            queue_seconds=event.queue_seconds,
            score_seconds=event.score_seconds,
            total_seconds=event.total_seconds,
            batch_size=event.batch_size,
            kafka=KafkaFields(event.partition, event.offset),
            fingerprint=_fingerprint(event.model, plain, event.features),
            features=Raw(plain) if plain is not None and searchable else UNSET,
            features_text=UNSET if searchable else bytes(event.features).decode(errors="replace"),
            prediction=event.prediction,
            redacted=event.redacted,
        ),
    )


def encode(document: Document) -> bytes:
    """The document as one line of JSON, as the bulk format needs it."""
    line = _ENCODER.encode(document)
    # Only a raw prediction can bring a line break along, as white space between its tokens.
    return msgspec.json.format(line, indent=-1) if b"\n" in line else line


def to_document(event: PredictionLogged) -> bytes:
    """The document of an event as one line of JSON."""
    return encode(to_fields(event))
