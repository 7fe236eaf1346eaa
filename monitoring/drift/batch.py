"""Records of the log topic as runs of rows: of one model version, from one partition, in their order."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Message
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.json import Decoder

from machine_learning_engineering.core.json_values import depth
from machine_learning_engineering.events.schemas import Timestamp


class Version(NamedTuple):
    """A version of a model."""

    model: str
    number: str


class LoggedRow(Struct, frozen=True, tag_field="type", tag="prediction.logged.v1"):
    """What drift needs of a `PredictionLogged`: decoding skips the rest."""

    request_id: str
    model: str
    outcome: str
    features: Raw
    accepted_at: Timestamp
    model_version: str | UnsetType = UNSET
    prediction: Raw | UnsetType = UNSET
    redacted: tuple[str, ...] = ()


class Row(NamedTuple):
    """A request that was answered; features and prediction are JSON. `redacted` features are not as they were sent."""

    offset: int
    accepted_at: datetime
    request_id: str
    features: Raw
    prediction: Raw
    redacted: tuple[str, ...]


class Batch(NamedTuple):
    """`left_out` counts records that hold no row, by reason. By partition: `next_offsets` are behind all records, and
    `newest` is when the newest request among them was accepted, answered or not."""

    runs: dict[tuple[int, Version], list[Row]]
    left_out: Counter[str]
    next_offsets: dict[int, int]
    newest: dict[int, datetime]


_MAX_NESTING = 50
_decode = Decoder(LoggedRow).decode


def read_batch(messages: Sequence[Message]) -> Batch:
    """The rows of records without errors."""
    found = Batch({}, Counter(), {}, {})
    for message in messages:
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        found.next_offsets[partition] = offset + 1
        try:
            logged = _decode(message.value() or b"")
            accepted_at = logged.accepted_at.astimezone(UTC)
        except (ValueError, RecursionError, OverflowError):
            found.left_out["unreadable"] += 1
            continue
        found.newest[partition] = max(accepted_at, found.newest.get(partition, accepted_at))
        if logged.outcome != "completed" or logged.model_version is UNSET or logged.prediction is UNSET:
            found.left_out["failed"] += 1
            continue
        row = Row(offset, accepted_at, logged.request_id, logged.features, logged.prediction, logged.redacted)
        found.runs.setdefault((partition, Version(logged.model, logged.model_version)), []).append(row)
    return found


def objects(values: Sequence[Raw]) -> list[dict[str, Any] | None]:
    """The JSON objects of raw values, decoded together; None for what is none, or is nested too deeply to count."""
    try:
        decoded = msgspec.json.decode(b"[" + b",".join(values) + b"]")
    except (ValueError, RecursionError):
        decoded = [_object(value) for value in values]
    return [
        value if isinstance(value, dict) and not _is_deep(raw, value) else None
        for raw, value in zip(values, decoded, strict=True)
    ]


def _object(value: Raw) -> Any:
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return None


def _is_deep(raw: Raw, value: Any) -> bool:
    # Few brackets can't be deep; only for many is it worth looking how they nest.
    text = bytes(raw)
    return text.count(b"{") + text.count(b"[") > _MAX_NESTING and depth(value) > _MAX_NESTING
