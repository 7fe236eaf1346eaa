"""`inference-dead-letters-*`: why a record became a dead letter and where it is; never the record itself.

The payload may hold personal data and may be anything: `inflight dlq show` prints it.
"""

from datetime import UTC, datetime

from msgspec import UNSET, Raw, Struct, UnsetType, field

from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.events.headers import RecordHeaders, traceparent_of
from machine_learning_engineering.observability.trace import trace_ids
from monitoring.documents.common import (
    ECS,
    MODULE,
    SERVICE,
    ErrorFields,
    Id,
    Position,
    digest,
    index_for,
)

FAMILY = "dead-letters"


class FailureEvent(Struct, frozen=True):
    """ECS `event.*`."""

    kind: str = "event"
    action: str = "dead_letter"
    outcome: str = "failure"
    module: str = MODULE
    dataset: str = "inflight.dead_letters"


class DeadLetterFields(Struct, frozen=True):
    """Topic, partition and offset of the original record; `size` of its value in bytes, or of all of it if it was cut.

    `kafka` is the position of the dead letter in its own topic: the argument of `inflight dlq show`.
    """

    reason: str
    stage: str
    topic: str
    partition: int
    offset: int
    size: int
    kafka: Position


class ModelName(Struct, frozen=True):
    name: str


class InflightFields(Struct, frozen=True):
    """`inflight.*`; request id and model are unset if they could not be read."""

    dead_letter: DeadLetterFields
    request_id: str | UnsetType = UNSET
    model: ModelName | UnsetType = UNSET


class DeadLetterDocument(Struct, frozen=True):
    """One document of `inference-dead-letters-*`; `@timestamp` is the time of the dead letter in its topic."""

    timestamp: datetime = field(name="@timestamp")
    error: ErrorFields
    inflight: InflightFields
    event: FailureEvent = FailureEvent()
    trace: Id | UnsetType = UNSET
    span: Id | UnsetType = UNSET
    ecs: Raw = ECS
    service: Raw = SERVICE


def dead_letter_document(
    topic: str,
    partition: int,
    offset: int,
    milliseconds: int,
    size: int,
    headers: RecordHeaders | None,
) -> tuple[str, str, DeadLetterDocument]:
    """Index, id and document of a dead letter.

    Args:
        topic: the dead-letter topic of this deployment; `partition`, `offset` and `milliseconds` (since 1970) of the
            record there.
        size: of the value of the dead letter, in bytes.

    Raises:
        ValueError: the headers hold no origin, or the time is out of range.
    """
    origin = read_origin(headers)
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"time {milliseconds} ms is out of range") from error
    trace = trace_ids(traceparent_of(headers or ()))
    document = DeadLetterDocument(
        timestamp=moment,
        error=ErrorFields(origin.reason, origin.message),
        inflight=InflightFields(
            dead_letter=DeadLetterFields(
                reason=origin.reason,
                stage=origin.stage,
                topic=origin.topic,
                partition=origin.partition,
                offset=origin.offset,
                size=size if origin.truncated is None else origin.truncated,
                kafka=Position(partition, offset),
            ),
            request_id=UNSET if origin.request_id is None else origin.request_id,
            model=UNSET if origin.model is None else ModelName(origin.model),
        ),
        trace=UNSET if trace is None else Id(trace[0]),
        span=UNSET if trace is None else Id(trace[1]),
    )
    # The time is part of the id: a topic that is deleted and recreated counts its offsets from zero again.
    return index_for(FAMILY, moment), digest(topic, partition, offset, milliseconds), document
