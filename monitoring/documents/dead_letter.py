"""`inference-dead-letters-*`: that a record was set aside, why and where it is; never the record itself.

The payload may hold personal data, and may be anything: `inflight dlq show` has it.
"""

from collections.abc import Sequence
from datetime import UTC, datetime

from msgspec import UNSET, Raw, Struct, UnsetType, field

from machine_learning_engineering.dead_letters.letter import read_origin
from machine_learning_engineering.observability.trace import TRACEPARENT
from monitoring.documents.common import ECS, MODULE, SERVICE, ErrorFields, Id, daily_index, digest, trace_ids

FAMILY = "dead-letters"


class FailureEvent(Struct, frozen=True):
    """ECS `event.*`."""

    kind: str = "event"
    action: str = "dead_letter"
    outcome: str = "failure"
    module: str = MODULE
    dataset: str = "inflight.dead-letters"


class Address(Struct, frozen=True):
    """Where the dead letter is in its own topic, as `inflight dlq show` takes it."""

    partition: int
    offset: int


class DeadLetterFields(Struct, frozen=True):
    """Topic, partition and offset are those of the original record, `size` its bytes."""

    reason: str
    stage: str
    topic: str
    partition: int
    offset: int
    size: int
    kafka: Address


class ModelName(Struct, frozen=True):
    name: str


class RequestFields(Struct, frozen=True):
    """What is known of the request."""

    request_id: str | UnsetType = UNSET
    model: ModelName | UnsetType = UNSET


class DeadLetterDocument(Struct, frozen=True):
    """One document of `inference-dead-letters-*`; its moment is that of the record in the topic of dead letters."""

    timestamp: datetime = field(name="@timestamp")
    error: ErrorFields
    dead_letter: DeadLetterFields
    inference: RequestFields
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
    headers: Sequence[tuple[str, bytes | None]] | None,
) -> tuple[str, str, DeadLetterDocument]:
    """Index, id and document of a dead letter.

    Args:
        topic: the topic of dead letters in this deployment, with `partition`, `offset` and the time there.

    Raises:
        ValueError: the headers hold no origin, or the time is none.
    """
    origin = read_origin(headers)
    try:
        moment = datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (OverflowError, OSError) as error:
        raise ValueError(f"its time is {milliseconds}") from error
    carried = dict(headers or ()).get(TRACEPARENT) or b""
    trace = trace_ids(carried.decode(errors="replace"))
    document = DeadLetterDocument(
        timestamp=moment,
        error=ErrorFields(origin.reason, origin.message),
        dead_letter=DeadLetterFields(
            reason=origin.reason,
            stage=origin.stage,
            topic=origin.topic,
            partition=origin.partition,
            offset=origin.offset,
            size=size,
            kafka=Address(partition, offset),
        ),
        inference=RequestFields(
            request_id=UNSET if origin.request_id is None else origin.request_id,
            model=UNSET if origin.model is None else ModelName(origin.model),
        ),
        trace=UNSET if trace is None else Id(trace[0]),
        span=UNSET if trace is None else Id(trace[1]),
    )
    # With the time: a topic that was deleted and made again counts its offsets from zero again.
    return daily_index(FAMILY, moment), digest(topic, partition, offset, milliseconds), document
