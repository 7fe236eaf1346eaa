"""Events: one tagged union of frozen structs, JSON on the wire.

Compatibility rule: a published type only gains optional fields. Any other change is a new type with the next version in
its tag, and workers read the old type for as long as a topic may hold it. Golden files of each version are in
``tests/contract/golden``.
"""

from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from machine_learning_engineering.core.frames import make_frame

RequestId = Annotated[str, Meta(min_length=1, max_length=256, description="Unique per request; also the record's key.")]
ModelName = Annotated[str, Meta(min_length=1, max_length=128, description="Name of the model, such as `diamonds`.")]
Timestamp = Annotated[datetime, Meta(tz=True, description="RFC 3339 with an offset.")]
Seconds = Annotated[float, Meta(ge=0, description="A duration in seconds.")]


MAX_ERROR_CHARACTERS = 4_096
"""Maximum length of an error's message: the broker would reject an outcome that is too large at every attempt."""


class Error(Struct, frozen=True):
    """Reason of a failed prediction. `type` is stable, for programs; `message` is for humans and names the fix."""

    type: Literal["unknown_model", "invalid_features", "prediction_error"]
    message: str


class PredictionRequested(
    Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="prediction.requested.v1"
):
    """A request, as any producer writes it; `type` may be omitted.

    `features` stay raw: only the named model knows their schema.
    """

    request_id: RequestId
    model: ModelName
    features: Raw
    requested_at: Timestamp | UnsetType = UNSET


class SourcePosition(Struct, frozen=True):
    """Where a request came from, if not from the topic of requests: the full name of the topic, and the place in it."""

    topic: str
    partition: int
    offset: int


class PredictionCompleted(Struct, frozen=True, tag_field="type", tag="prediction.completed.v1"):
    """The prediction for one request.

    `source` is where the request came from, if that is a topic of others; `included` are fields of its event, by path.
    """

    request_id: RequestId
    model: ModelName
    model_version: str
    prediction: Raw
    requested_at: Timestamp
    completed_at: Timestamp
    source: SourcePosition | UnsetType = UNSET
    included: Raw | UnsetType = UNSET


class PredictionFailed(Struct, frozen=True, tag_field="type", tag="prediction.failed.v1"):
    """A valid request without a prediction; `model_version` is missing if the model is unknown.

    `source` and `included` as of a completed prediction.
    """

    request_id: RequestId
    model: ModelName
    error: Error
    requested_at: Timestamp
    completed_at: Timestamp
    model_version: str | UnsetType = UNSET
    source: SourcePosition | UnsetType = UNSET
    included: Raw | UnsetType = UNSET


class PredictionLogged(Struct, frozen=True, tag_field="type", tag="prediction.logged.v1"):
    """Flat record of one request and its outcome, including failures: the source of the index, metrics and drift.

    `accepted_at` is the broker's time of the request record. `queue_seconds` is the time from acceptance to the start
    of scoring, `score_seconds` the duration of the predict call of the request's batch (`batch_size` requests), and
    `total_seconds` the time from acceptance to completion. `traceparent` is the W3C trace context. `redacted` names the
    features that are hashed or omitted; ``*`` means all of them. `topic` is that of the request, if it is a topic of
    others: `partition` and `offset` are a place in it then.
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
    topic: str | UnsetType = UNSET


class ModelPromoted(Struct, frozen=True, tag_field="type", tag="model.promoted.v1"):
    """A version of a model became the champion, for `reason`, in place of `previous_version`."""

    model: ModelName
    model_version: str
    promoted_at: Timestamp
    reason: str
    previous_version: str | UnsetType = UNSET


class LabelReported(Struct, frozen=True, forbid_unknown_fields=True, tag_field="type", tag="label.reported.v1"):
    """The label of a request, as any producer writes it; `type` may be omitted.

    `label` has the type that the model declares. If a request has several labels, the one observed last counts.
    """

    request_id: RequestId
    model: ModelName
    label: Raw
    observed_at: Timestamp


class ApiCalled(Struct, frozen=True, kw_only=True, tag_field="type", tag="api.called.v1"):
    """One call of the gateway and its answer; also of a refused one.

    `call_id` is unique per call, `route` the template of the path, or "none" if no route has it. `caller` is the name
    of the API key, "anybody" where none is needed, and missing if the call had no valid one. `seconds` is the time from
    the headers of the call to the end of its answer. `problem` is the type of the problem that it ended in.
    `request_id` is that of the request on the stream, or of a batch with so many `rows`.

    Bodies are JSON values; one that is no JSON is a string. A body is missing if there is none, if it is not logged
    because of its size or its route, or if it was not read. `query` holds the parameters behind the path. `redacted`
    names the features that are hashed or omitted in body and query; ``*`` means all of them.
    """

    call_id: Annotated[str, Meta(min_length=1, max_length=64)]
    method: Annotated[str, Meta(max_length=32)]
    route: Annotated[str, Meta(max_length=256)]
    status: Annotated[int, Meta(ge=100, le=599)]
    started_at: Timestamp
    seconds: Seconds
    request_bytes: Annotated[int, Meta(ge=0, description="Size of the body that was received.")]
    response_bytes: Annotated[int, Meta(ge=0, description="Size of the body that was sent.")]
    caller: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    model: Annotated[str, Meta(max_length=128)] | UnsetType = UNSET
    model_version: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    request_id: Annotated[str, Meta(max_length=256)] | UnsetType = UNSET
    rows: Annotated[int, Meta(ge=0)] | UnsetType = UNSET
    problem: Annotated[str, Meta(max_length=64)] | UnsetType = UNSET
    query: Raw | UnsetType = UNSET
    request_body: Raw | UnsetType = UNSET
    response_body: Raw | UnsetType = UNSET
    redacted: list[str] | UnsetType = UNSET
    traceparent: str | UnsetType = UNSET


class FieldDrift(Struct, frozen=True):
    """Difference of one field of a window from the reference, by its test with the smallest p-value.

    `field` is, for example, ``features.carat`` or ``predictions.price``. `p_adjusted` is corrected for the number of
    tests of the window. Rates are shares of rows; those of the reference are of the rows that it was made from, where a
    text may have no known word either (`reference_unseen_rate`; unset in old events). `detail` names the word that
    differs most, if the test compares words.
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
    reference_unseen_rate: float | UnsetType = UNSET


class DriftMeasured(Struct, frozen=True, tag_field="type", tag="drift.measured.v1"):
    """Comparison of a window of requests with the reference profile of the model version, field by field.

    If the window follows the reference, the probability that any of its `fields` is reported as drifted is at most
    `significance`; a drifted field also has a population stability index of at least `min_psi`. `window_id` is the same
    whenever the same window is measured again.
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
    """A window has drifted; `fields` holds the drifted fields with their evidence."""

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
    """A metric of live predictions with its confidence interval; `reference` is the test metric from training."""

    name: str
    value: float
    lower: float
    upper: float
    reference: float | UnsetType = UNSET


class QualityMeasured(Struct, frozen=True, tag_field="type", tag="quality.measured.v1"):
    """Quality of a model version, from the labelled requests that were accepted in a window."""

    model: ModelName
    model_version: str
    measured_at: Timestamp
    window_start: Timestamp
    window_end: Timestamp
    rows: int
    confidence: float
    metrics: list[LiveMetric]

    def to_pandas(self) -> Any:
        """The metrics as a DataFrame of pandas, one row each; the other fields are in its ``attrs``.

        Raises:
            ImportError: pandas is not installed.
        """
        plain = [msgspec.structs.asdict(metric) for metric in self.metrics]
        found = {name: [one[name] for one in plain] for name in LiveMetric.__struct_fields__}
        found["reference"] = [None if one is UNSET else one for one in found["reference"]]
        frame = make_frame(found, {name: "string" if name == "name" else "float64" for name in found})
        frame.attrs |= {name: getattr(self, name) for name in self.__struct_fields__ if name != "metrics"}
        return frame


Result = PredictionCompleted | PredictionFailed
Measurement = DriftMeasured | QualityMeasured
ModelEvent = ModelPromoted | DriftDetected
Event = PredictionRequested | Result | PredictionLogged | LabelReported | ApiCalled | Measurement | ModelEvent

encode = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(PredictionRequested).decode
decode_result: Callable[[bytes], Result] = msgspec.json.Decoder(Result).decode
decode_log = msgspec.json.Decoder(PredictionLogged).decode
decode_label = msgspec.json.Decoder(LabelReported).decode
decode_api_call = msgspec.json.Decoder(ApiCalled).decode
decode_model_event: Callable[[bytes], ModelEvent] = msgspec.json.Decoder(ModelEvent).decode
decode_measurement: Callable[[bytes], Measurement] = msgspec.json.Decoder(Measurement).decode


def parse(raw: Raw) -> Any:
    """Decode a raw field to plain Python objects."""
    return msgspec.json.decode(raw)
