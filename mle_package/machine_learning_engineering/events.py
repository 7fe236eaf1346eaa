"""What happens, as values: one tagged union of frozen Structs, JSON on the wire.

The rule for change, which every type below obeys: a published type only ever gains optional fields. Anything else is a
new type with the next version in its tag, and workers read the old one for as long as a topic may hold it. The bytes of
each version stay as golden files under ``tests/contract/golden``.
"""

from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

RequestId = Annotated[str, Meta(min_length=1, max_length=256, description="Unique per request; also the record's key.")]
ModelName = Annotated[str, Meta(min_length=1, max_length=128, description="Name of the model, such as `diamonds`.")]
Timestamp = Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset.")]
Seconds = Annotated[float, Meta(ge=0, description="A duration in seconds.")]


class Error(Struct, frozen=True):
    """Why a prediction failed. `type` is stable and for programs, `message` is for people and names the fix."""

    type: Literal["unknown-model", "invalid-features", "prediction-error"]
    message: str


class PredictionRequested(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="prediction.requested.v1"
):
    """A request, as any producer writes it; the `type` may be left out.

    `features` stays raw here: only the model that it names knows its schema.
    """

    request_id: RequestId
    model: ModelName
    features: Raw
    requested_at: Timestamp | UnsetType = UNSET


class PredictionCompleted(Struct, frozen=True, tag_field="type", tag="prediction.completed.v1"):
    """The model's answer to one request."""

    request_id: RequestId
    model: ModelName
    model_version: str
    prediction: Raw
    requested_at: Timestamp
    completed_at: Timestamp


class PredictionFailed(Struct, frozen=True, tag_field="type", tag="prediction.failed.v1"):
    """A request that was understood but can't be answered; `model_version` is missing where no model was found."""

    request_id: RequestId
    model: ModelName
    error: Error
    requested_at: Timestamp
    completed_at: Timestamp
    model_version: str | UnsetType = UNSET


class PredictionLogged(Struct, frozen=True, tag_field="type", tag="prediction.logged.v1"):
    """The flat record of one request and its outcome, failures included: source of index, metrics and drift.

    `accepted_at` is the broker's time of the request record. Of the durations, `queue_seconds` runs from acceptance to
    the start of scoring, `score_seconds` is the time of the batch that the request was scored in (`batch_size`
    requests), and `total_seconds` runs from acceptance to completion. `traceparent` is the W3C trace context.
    """

    request_id: RequestId
    model: ModelName
    outcome: Literal["completed", "failed"]
    features: Raw
    requested_at: Timestamp
    accepted_at: Timestamp
    completed_at: Timestamp
    queue_seconds: Seconds
    score_seconds: Seconds
    total_seconds: Seconds
    batch_size: int
    partition: int
    offset: int
    model_version: str | UnsetType = UNSET
    prediction: Raw | UnsetType = UNSET
    error: Error | UnsetType = UNSET
    traceparent: str | UnsetType = UNSET


class ModelPromoted(Struct, frozen=True, tag_field="type", tag="model.promoted.v1"):
    """A version of a model is the champion from now on. `reason` says why, `previous_version` which one was before."""

    model: ModelName
    model_version: str
    promoted_at: Timestamp
    reason: str
    previous_version: str | UnsetType = UNSET


Result = PredictionCompleted | PredictionFailed
Event = PredictionRequested | PredictionCompleted | PredictionFailed | PredictionLogged | ModelPromoted

_ENCODER = msgspec.json.Encoder()
_REQUEST_DECODER = msgspec.json.Decoder(PredictionRequested)
_RESULT_DECODER: msgspec.json.Decoder[Result] = msgspec.json.Decoder(Result)
_LOG_DECODER = msgspec.json.Decoder(PredictionLogged)
_PROMOTED_DECODER = msgspec.json.Decoder(ModelPromoted)

encode = _ENCODER.encode
decode_request = _REQUEST_DECODER.decode
decode_result = _RESULT_DECODER.decode
decode_log = _LOG_DECODER.decode
decode_promoted = _PROMOTED_DECODER.decode


def parse(raw: Raw) -> Any:
    """The JSON value of a raw field, as plain Python objects."""
    return msgspec.json.decode(raw)
