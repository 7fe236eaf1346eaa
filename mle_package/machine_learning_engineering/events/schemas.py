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

    type: Literal["unknown_model", "invalid_features", "prediction_error"]
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
    `redacted` names the features that are not here as they were sent: hashed or left out; ``*`` means all of them.
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
    redacted: list[str] | UnsetType = UNSET


class ModelPromoted(Struct, frozen=True, tag_field="type", tag="model.promoted.v1"):
    """A version of a model is the champion from now on. `reason` says why, `previous_version` which one was before."""

    model: ModelName
    model_version: str
    promoted_at: Timestamp
    reason: str
    previous_version: str | UnsetType = UNSET


class LabelReported(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="label.reported.v1"):
    """The true answer to a request, as anyone reports it; the `type` may be left out.

    `label` is what the model's own schema of labels has. Of several labels of one request the one observed last counts.
    """

    request_id: RequestId
    model: ModelName
    label: Raw
    observed_at: Timestamp


class FieldDrift(Struct, frozen=True):
    """How one field of a window differs from the reference, by the most suspicious of its tests.

    `field` is, for example, ``features.carat`` or ``predictions.price``. Of the p-values `p_adjusted` is corrected for
    the number of tests of the window. Rates are shares of rows; the reference's are of the rows it was trained on.
    `detail` names the word that differs most, where that test is about words.
    """

    field: str
    kind: Literal["feature", "prediction"]
    statistic: str
    psi: float
    p_value: float
    p_adjusted: float
    drifted: bool
    missing_rate: float
    unseen_rate: float
    out_of_range_rate: float
    reference_missing_rate: float
    detail: str = ""


class DriftMeasured(Struct, frozen=True, tag_field="type", tag="drift.measured.v1"):
    """A window of a model's requests that was compared with the reference profile of its version, field by field.

    Unless the window differs, the chance that any of its `fields` drifted is at most `significance`; a field also needs
    a population stability index of `min_psi`. `window_id` is the same whenever the same window is measured again.
    """

    model: ModelName
    model_version: str
    window_id: str
    window_start: Timestamp
    window_end: Timestamp
    closed_by: Literal["count", "time"]
    rows: int
    significance: float
    min_psi: float
    fields: list[FieldDrift]


class DriftDetected(Struct, frozen=True, tag_field="type", tag="drift.detected.v1"):
    """A window has drifted: `fields` are the ones that did, with the evidence."""

    model: ModelName
    model_version: str
    window_id: str
    detected_at: Timestamp
    window_start: Timestamp
    window_end: Timestamp
    rows: int
    significance: float
    fields: list[FieldDrift]


class LiveMetric(Struct, frozen=True):
    """A metric of live answers and its confidence interval; `reference` is what the version had when it was trained."""

    name: str
    value: float
    lower: float
    upper: float
    reference: float | UnsetType = UNSET


class QualityMeasured(Struct, frozen=True, tag_field="type", tag="quality.measured.v1"):
    """How good the answers of a model's version are, by the labels of the requests that were accepted in a window."""

    model: ModelName
    model_version: str
    measured_at: Timestamp
    window_start: Timestamp
    window_end: Timestamp
    rows: int
    confidence: float
    metrics: list[LiveMetric]


Result = PredictionCompleted | PredictionFailed
Measurement = DriftMeasured | QualityMeasured
ModelEvent = ModelPromoted | DriftDetected
Event = PredictionRequested | Result | PredictionLogged | LabelReported | Measurement | ModelEvent

_ENCODER = msgspec.json.Encoder()
_REQUEST_DECODER = msgspec.json.Decoder(PredictionRequested)
_RESULT_DECODER: msgspec.json.Decoder[Result] = msgspec.json.Decoder(Result)
_LOG_DECODER = msgspec.json.Decoder(PredictionLogged)
_LABEL_DECODER = msgspec.json.Decoder(LabelReported)
_PROMOTED_DECODER = msgspec.json.Decoder(ModelPromoted)
_MODEL_EVENT_DECODER: msgspec.json.Decoder[ModelEvent] = msgspec.json.Decoder(ModelEvent)
_MEASUREMENT_DECODER: msgspec.json.Decoder[Measurement] = msgspec.json.Decoder(Measurement)

encode = _ENCODER.encode
decode_request = _REQUEST_DECODER.decode
decode_result = _RESULT_DECODER.decode
decode_log = _LOG_DECODER.decode
decode_label = _LABEL_DECODER.decode
decode_promoted = _PROMOTED_DECODER.decode
decode_model_event = _MODEL_EVENT_DECODER.decode
decode_measurement = _MEASUREMENT_DECODER.decode


def parse(raw: Raw) -> Any:
    """The JSON value of a raw field, as plain Python objects."""
    return msgspec.json.decode(raw)
