"""The records of a shadow's answers. Pure."""

from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Literal, NamedTuple, cast

import msgspec
from msgspec import UNSET, Raw, UnsetType

from machine_learning_engineering.events import schemas as events
from machine_learning_engineering.events.schemas import Error, PredictionShadowed
from stream_app.serving.arms import ShadowPlan

# A byte that JSON text never holds.
_SLOT: Any = Raw(b"\0")
_encode_lines = msgspec.json.Encoder().encode_lines


class ShadowRow(NamedTuple):
    """What is kept of a request until the shadow has answered. Without features, the row is dropped."""

    request_id: str
    key: bytes | None
    partition: int
    offset: int
    milliseconds: int
    """Time of acceptance."""
    topic: str | UnsetType
    prediction: bytes | None
    features: bytes


class Timing(NamedTuple):
    """What is the same for all rows of a predict call."""

    completed: float
    served_seconds: float
    shadow_seconds: float | UnsetType = UNSET
    memory_bytes: int | UnsetType = UNSET


def shadow_rows(rows: Sequence[Any], predictions: Sequence[bytes | None]) -> list[ShadowRow]:
    """Copies of what is needed of pending requests, which hold whole records and batches.

    Args:
        rows: each a `PendingRequest`.
        predictions: of the version in service, as JSON.
    """
    make = ShadowRow._make
    return [
        make(
            (
                row.request.request_id,
                (record := row.record).key(),
                record.partition(),
                record.offset(),
                row.milliseconds,
                UNSET if row.origin is None else row.origin.topic,
                prediction,
                bytes(row.request.features),
            )
        )
        for row, prediction in zip(rows, predictions, strict=True)
    ]


def completed(
    plan: ShadowPlan, rows: Sequence[ShadowRow], timing: Timing, predictions: Sequence[bytes]
) -> Iterator[tuple[bytes | None, bytes]]:
    """Key and value of the record of each answered row.

    Args:
        predictions: of the shadow, as JSON; empty for rows without one, which are left out.
    """
    # The parts that rows share are encoded once: their time, too, as many of a batch share a millisecond.
    formats: dict[tuple[bool, str | UnsetType], bytes] = {}
    identifiers = _encode_lines([row[0] for row in rows]).split(b"\n")
    form, kind, milliseconds, accepted = b"", None, -1, b""
    for row, request_id, shadow in zip(rows, identifiers, predictions, strict=False):
        if not shadow:
            continue
        _, key, partition, offset, at, topic, prediction, _ = row
        found = (prediction is None, topic)
        if found != kind:
            kind = found
            form = formats.get(kind) or _format(_event(plan, row, timing, "completed", shadow_prediction=_SLOT))
            formats[kind] = form
        if at != milliseconds:
            milliseconds, accepted = at, events.encode(_time(at))
        if prediction is None:
            yield key, form % (request_id, accepted, partition, offset, shadow)
        else:
            yield key, form % (request_id, accepted, partition, offset, prediction, shadow)


def failed(
    plan: ShadowPlan, rows: Sequence[ShadowRow], timing: Timing, errors: Mapping[int, Error]
) -> Iterator[tuple[bytes | None, bytes]]:
    """Key and value of the record of each failed row; `errors` by row."""
    for number, error in sorted(errors.items()):
        yield rows[number].key, _whole(plan, rows[number], timing, "failed", error)


def dropped(plan: ShadowPlan, rows: Sequence[ShadowRow], timing: Timing) -> Iterator[tuple[bytes | None, bytes]]:
    """Key and value of the record of each row that the shadow had no time for."""
    for row in rows:
        yield row.key, _whole(plan, row, timing, "dropped", UNSET)


def _whole(
    plan: ShadowPlan,
    row: ShadowRow,
    timing: Timing,
    outcome: Literal["failed", "dropped"],
    error: Error | UnsetType,
) -> bytes:
    event = _event(plan, row, timing, outcome, error=error)
    return events.encode(
        msgspec.structs.replace(
            event,
            request_id=row.request_id,
            accepted_at=_time(row.milliseconds),
            partition=row.partition,
            offset=row.offset,
            prediction=UNSET if row.prediction is None else Raw(row.prediction),
        )
    )


def _event(
    plan: ShadowPlan,
    row: ShadowRow,
    timing: Timing,
    outcome: Literal["completed", "failed", "dropped"],
    **more: Any,
) -> PredictionShadowed:
    return PredictionShadowed(
        request_id=_SLOT,
        model=plan.model,
        rollout_id=plan.rollout_id,
        role=plan.role,
        served_version=plan.served_version,
        shadow_version=plan.shadow_version,
        outcome=outcome,
        accepted_at=_SLOT,
        completed_at=datetime.fromtimestamp(timing.completed, UTC),
        partition=_SLOT,
        offset=_SLOT,
        served_seconds=timing.served_seconds,
        prediction=UNSET if row.prediction is None else _SLOT,
        shadow_seconds=timing.shadow_seconds,
        memory_bytes=timing.memory_bytes,
        topic=row.topic,
        **more,
    )


def _format(event: PredictionShadowed) -> bytes:
    """A format of an event's JSON: two texts, two numbers, then what is predicted."""
    parts = [part.replace(b"%", b"%%") for part in events.encode(event).split(b"\0")]
    slots = [b"%b", b"%b", b"%d", b"%d", *[b"%b"] * (len(parts) - 5)]
    pairs = zip(parts, [*slots, b""], strict=True)
    return b"".join(part + slot for part, slot in pairs)


def _time(milliseconds: int) -> datetime:
    return datetime.fromtimestamp(milliseconds / 1000.0, UTC)


def error_of(kind: str, message: str) -> Error:
    """The error of a failed row, whose type a child process says."""
    known = kind if kind in ("invalid_features", "prediction_error") else "prediction_error"
    return Error(cast(Literal["invalid_features", "prediction_error"], known), message[: events.MAX_ERROR_CHARACTERS])
