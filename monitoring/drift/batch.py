"""Records of the log topic as runs of rows: of one model version, from one partition, in their order."""

from collections import Counter
from collections.abc import Sequence
from datetime import datetime
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Message
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.json import Decoder


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
    accepted_at: datetime
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
    """`left_out` counts records that hold no row, by reason; `next_offsets` are behind all records, by partition."""

    runs: dict[tuple[int, Version], list[Row]]
    left_out: Counter[str]
    next_offsets: dict[int, int]


_decode = Decoder(LoggedRow).decode


def read_batch(messages: Sequence[Message]) -> Batch:
    """The rows of records without errors."""
    found = Batch({}, Counter(), {})
    for message in messages:
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        found.next_offsets[partition] = offset + 1
        try:
            logged = _decode(message.value() or b"")
        except (ValueError, RecursionError):
            found.left_out["unreadable"] += 1
            continue
        if logged.outcome != "completed" or logged.model_version is UNSET or logged.prediction is UNSET:
            found.left_out["failed"] += 1
            continue
        row = Row(offset, logged.accepted_at, logged.request_id, logged.features, logged.prediction, logged.redacted)
        found.runs.setdefault((partition, Version(logged.model, logged.model_version)), []).append(row)
    return found


def objects(values: Sequence[Raw]) -> list[dict[str, Any] | None]:
    """The JSON objects of raw values, decoded together; None for what is none."""
    try:
        decoded = msgspec.json.decode(b"[" + b",".join(values) + b"]")
    except (ValueError, RecursionError):
        decoded = [_object(value) for value in values]
    return [value if isinstance(value, dict) else None for value in decoded]


def _object(value: Raw) -> Any:
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return None
