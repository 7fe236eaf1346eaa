"""Log records, grouped into runs of rows: one model version, one partition, in order."""

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Message
from msgspec import UNSET, Raw, Struct, UnsetType
from msgspec.json import Decoder

from machine_learning_engineering.core.json_values import is_deeper
from machine_learning_engineering.events.schemas import Timestamp
from monitoring.model_version import ModelVersion


class LoggedRow(Struct, frozen=True, tag_field="type", tag="prediction.logged.v1"):
    """The fields of a `PredictionLogged` that drift needs. Decoding skips the others."""

    request_id: str
    model: str
    outcome: str
    features: Raw
    accepted_at: Timestamp
    model_version: str | UnsetType = UNSET
    prediction: Raw | UnsetType = UNSET
    redacted: tuple[str, ...] = ()


class Row(NamedTuple):
    """A completed request. Features and prediction are JSON.

    `redacted` names the features whose logged value differs from the one that was sent.
    """

    offset: int
    accepted_at: datetime
    request_id: str
    features: Raw
    prediction: Raw
    redacted: tuple[str, ...]


class Batch(NamedTuple):
    """Rows by partition and version. `left_out` counts the other records by reason.

    By partition, `next_offsets` follows the last record, and `newest` is the latest acceptance time of a request,
    completed or failed.
    """

    runs: dict[tuple[int, ModelVersion], list[Row]]
    left_out: Counter[str]
    next_offsets: dict[int, int]
    newest: dict[int, datetime]


_MAX_NESTING = 50
_decode = Decoder(LoggedRow).decode


def read_batch(messages: Sequence[Message]) -> Batch:
    """Group messages, none of which may be an error."""
    batch = Batch({}, Counter(), {}, {})
    for message in messages:
        partition, offset = message.partition(), message.offset()
        assert partition is not None
        assert offset is not None
        batch.next_offsets[partition] = offset + 1
        try:
            logged = _decode(message.value() or b"")
            accepted_at = logged.accepted_at.astimezone(UTC)
        except (ValueError, RecursionError, OverflowError):
            batch.left_out["unreadable"] += 1
            continue
        batch.newest[partition] = max(accepted_at, batch.newest.get(partition, accepted_at))
        if logged.outcome != "completed" or logged.model_version is UNSET or logged.prediction is UNSET:
            batch.left_out["failed"] += 1
            continue
        row = Row(offset, accepted_at, logged.request_id, logged.features, logged.prediction, logged.redacted)
        batch.runs.setdefault((partition, ModelVersion(logged.model, logged.model_version)), []).append(row)
    return batch


def decode_objects(values: Sequence[Raw]) -> list[dict[str, Any] | None]:
    """Decode JSON objects together. None replaces a value that is no object or is nested too deeply to count."""
    try:
        decoded = msgspec.json.decode(b"[" + b",".join(values) + b"]")
    except (ValueError, RecursionError):
        decoded = [_decode_one(value) for value in values]
    return [
        value if isinstance(value, dict) and not is_deeper(bytes(raw), _MAX_NESTING) else None
        for raw, value in zip(values, decoded, strict=True)
    ]


def _decode_one(value: Raw) -> Any:
    try:
        return msgspec.json.decode(value)
    except (ValueError, RecursionError):
        return None
