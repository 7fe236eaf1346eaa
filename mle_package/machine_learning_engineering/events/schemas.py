"""Events: one tagged union of frozen structs, JSON on the wire.

Compatibility rule: a published type only gains optional fields. Any other change is a new type with the next version in
its tag, and workers read the old type for as long as a topic may hold it. Golden files of each version are in
``tests/contract/golden``.
"""

from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from machine_learning_engineering.events.fields import ModelName as ModelName
from machine_learning_engineering.events.fields import RequestId as RequestId
from machine_learning_engineering.events.fields import Seconds as Seconds
from machine_learning_engineering.events.fields import Timestamp as Timestamp
from machine_learning_engineering.events.measurements import DriftDetected as DriftDetected
from machine_learning_engineering.events.measurements import DriftMeasured as DriftMeasured
from machine_learning_engineering.events.measurements import FieldDrift as FieldDrift
from machine_learning_engineering.events.measurements import LiveMetric as LiveMetric
from machine_learning_engineering.events.measurements import QualityMeasured as QualityMeasured

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


class RolloutArm(Struct, frozen=True):
    """Which arm of a rollout answered a request, as it was at scoring time.

    The request's key is in the challenger's arm if its bucket under `salt` is below `percent` (`rollout.split`).
    """

    rollout_id: str
    arm: Literal["champion", "challenger"]
    champion: str
    challenger: str
    salt: str
    percent: int


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
    rollout: RolloutArm | UnsetType = UNSET


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
    rollout: RolloutArm | UnsetType = UNSET


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
    rollout: RolloutArm | UnsetType = UNSET


class PredictionShadowed(Struct, frozen=True, kw_only=True, tag_field="type", tag="prediction.shadowed.v1"):
    """The answer of a rollout's challenger beside that of the champion, for one request. No consumer is given it.

    `role` is what the answering `shadow_version` is in the rollout; after the promotion, the champion of before is the
    shadow. `prediction` is what the version in service answered, missing if it failed. `outcome` is the shadow's:
    "dropped" if it had no time for the request, "failed" with `error` if it raised. `memory_bytes` is that of the
    shadow's process. Times and place are those of the request's log record.
    """

    request_id: RequestId
    model: ModelName
    rollout_id: str
    role: Literal["champion", "challenger"]
    served_version: str
    shadow_version: str
    outcome: Literal["completed", "failed", "dropped"]
    accepted_at: Timestamp
    completed_at: Timestamp
    partition: int
    offset: int
    served_seconds: Seconds
    prediction: Raw | UnsetType = UNSET
    shadow_prediction: Raw | UnsetType = UNSET
    shadow_seconds: Seconds | UnsetType = UNSET
    error: Error | UnsetType = UNSET
    memory_bytes: int | UnsetType = UNSET
    topic: str | UnsetType = UNSET


class RolloutChanged(Struct, frozen=True, kw_only=True, tag_field="type", tag="rollout.changed.v1"):
    """A step of a rollout: what was done, by whom or what, why, and the state after it.

    `verdict` is the verdict that decided it, as JSON; steps of people have none. `rollout_id` and `step` identify it,
    however often it is published.
    """

    model: ModelName
    rollout_id: str
    step: int
    action: str
    changed_at: Timestamp
    by: str
    reason: str
    stage: str
    percent: int
    champion: str
    challenger: str
    trigger: str = ""
    verdict: Raw | UnsetType = UNSET


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


Result = PredictionCompleted | PredictionFailed
Measurement = DriftMeasured | QualityMeasured
ModelEvent = ModelPromoted | DriftDetected | RolloutChanged
Event = (
    PredictionRequested
    | Result
    | PredictionLogged
    | PredictionShadowed
    | LabelReported
    | ApiCalled
    | Measurement
    | ModelEvent
)

encode = msgspec.json.Encoder().encode
decode_request = msgspec.json.Decoder(PredictionRequested).decode
decode_result: Callable[[bytes], Result] = msgspec.json.Decoder(Result).decode
decode_log = msgspec.json.Decoder(PredictionLogged).decode
decode_shadow = msgspec.json.Decoder(PredictionShadowed).decode
decode_label = msgspec.json.Decoder(LabelReported).decode
decode_api_call = msgspec.json.Decoder(ApiCalled).decode
decode_model_event: Callable[[bytes], ModelEvent] = msgspec.json.Decoder(ModelEvent).decode
decode_measurement: Callable[[bytes], Measurement] = msgspec.json.Decoder(Measurement).decode


def parse(raw: Raw) -> Any:
    """Decode a raw field to plain Python objects."""
    return msgspec.json.decode(raw)
