"""Records of the stream as rows of the archive. No I/O."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from hashlib import blake2b
from typing import Any, NamedTuple

import msgspec
from confluent_kafka import Message
from msgspec import UNSET, Raw, UnsetType

from machine_learning_engineering.core.json_values import canonical_json, is_deeper
from machine_learning_engineering.core.timestamps import to_utc
from machine_learning_engineering.events.fingerprint import fingerprint_of_canonical
from machine_learning_engineering.events.headers import headers_of
from machine_learning_engineering.events.labels import read_label
from machine_learning_engineering.events.record_time import recorded_at, written_at
from machine_learning_engineering.events.schemas import PredictionLogged, RolloutArm, decode_api_call, decode_log
from machine_learning_engineering.events.topics import API_CALLS, LABELS, LOGS
from monitoring.archive.tables import MAX_DEPTH

UNREADABLE = (ValueError, OverflowError, RecursionError)
"""What `Projection.row` raises for a record that is none of its topic."""
MAX_AHEAD = timedelta(hours=1)
"""How far the time of an event may be after that of its record: a later one would never be deleted by its age."""
_NUL = "\x00"
_REPLACED = "�"
# A database can't read back NUL in a text.
_ESCAPED_NUL = re.compile(rb"(?<!\\)(?:\\\\)*\\u0000")
_MAX_SOURCE_BYTES = 256
_INT = 2**63

Values = dict[str, Any]


class Row(NamedTuple):
    """A row of the table `table`. `at` is the time by which it is deleted.

    `topic` is the one of its record, and `position` its partition and offset.
    """

    table: str
    key: tuple[str, ...]
    at: datetime
    values: Values
    topic: str = ""
    position: str = ""


class Projection(NamedTuple):
    """How the records of a topic become rows; `row` raises one of `UNREADABLE` if a record is not a `what`."""

    what: str
    row: Callable[[Message], Row]


def prediction_row(event: PredictionLogged) -> Row:
    """The row of a request and its outcome."""
    plain = canonical_json(event.features)
    error = None if isinstance(event.error, UnsetType) else event.error
    request_id = id_text(event.request_id)
    accepted_at = event.accepted_at.astimezone(UTC)
    values: Values = {
        "request_id": request_id,
        "model": _text(event.model),
        "model_version": _text(event.model_version) or "",
        "outcome": event.outcome,
        "error_type": None if error is None else error.type,
        "error_message": None if error is None else _text(error.message),
        "requested_at": to_utc(event.requested_at),
        "accepted_at": accepted_at,
        "completed_at": to_utc(event.completed_at),
        "queue_seconds": event.queue_seconds,
        "score_seconds": event.score_seconds,
        "total_seconds": event.total_seconds,
        "batch_size": _int(event.batch_size),
        "kafka_partition": _int(event.partition),
        "kafka_offset": _int(event.offset),
        "traceparent": _text(event.traceparent),
        "redacted": _list(event.redacted),
        "fingerprint": fingerprint_of_canonical(event.model, plain or bytes(event.features)),
        **_json("features", event.features),
        **_json("prediction", event.prediction),
        **_arm(event.rollout),
    }
    return Row("predictions", (request_id,), accepted_at, values, LOGS)


def _arm(arm: RolloutArm | UnsetType) -> Values:
    """The columns of a rollout. None of them is missing: one statement writes rows with and without."""
    known = None if isinstance(arm, UnsetType) else arm
    return {
        "rollout_id": None if known is None else _text(known.rollout_id),
        "rollout_arm": None if known is None else known.arm,
        "rollout_champion": None if known is None else _text(known.champion),
        "rollout_challenger": None if known is None else _text(known.challenger),
        "rollout_salt": None if known is None else _text(known.salt),
        "rollout_percent": None if known is None else _int(known.percent),
    }


def log_row(record: Message) -> Row:
    """The row of a log record."""
    return _timely(prediction_row(decode_log(record.value() or b"")), record)


def label_row(record: Message) -> Row:
    """The row of a reported label."""
    event = read_label(record)
    text = canonical_json(event.label)
    if text is None or text == b"null":
        raise ValueError("the label is null, or no readable JSON value")
    reported_at = recorded_at(record) or written_at(record)
    return new_label(event.request_id, event.model, text, event.observed_at, reported_at, _source(record))


def new_label(
    request_id: str, model: str, text: bytes, observed_at: datetime, reported_at: datetime, source: str | None = None
) -> Row:
    """The row of a label, as canonical JSON."""
    key = id_text(request_id), _text(model) or ""
    values: Values = {
        "request_id": key[0],
        "model": key[1],
        "label": text.decode() if _is_safe(text) else None,
        "label_text": text.decode(),
        "observed_at": to_utc(observed_at),
        "reported_at": to_utc(reported_at),
        "source": _text(source),
    }
    return Row("labels", key, reported_at, values, LABELS)


def call_row(record: Message) -> Row:
    """The row of a call of the API."""
    event = decode_api_call(record.value() or b"")
    call_id = id_text(event.call_id)
    values: Values = {
        "call_id": call_id,
        "started_at": to_utc(event.started_at),
        "method": _text(event.method),
        "route": _text(event.route),
        "status": event.status,
        "seconds": event.seconds,
        "caller": _text(event.caller),
        "model": _text(event.model),
        "model_version": _text(event.model_version),
        "request_id": None if isinstance(event.request_id, UnsetType) else id_text(event.request_id),
        "rows": None if isinstance(event.rows, UnsetType) else _int(event.rows),
        "problem": _text(event.problem),
        "request_bytes": _int(event.request_bytes),
        "response_bytes": _int(event.response_bytes),
        "redacted": _list(event.redacted),
        "traceparent": _text(event.traceparent),
        **_json("query", event.query),
        **_json("request_body", event.request_body),
        **_json("response_body", event.response_body),
    }
    return _timely(Row("api_calls", (call_id,), values["started_at"], values, API_CALLS), record)


PROJECTIONS = {
    LOGS: Projection("prediction log", log_row),
    LABELS: Projection("label", label_row),
    API_CALLS: Projection("API call", call_row),
}
"""By topic, without the deployment's prefix."""


def id_text(identity: str) -> str:
    """An id as the archive has it: itself, unless it holds NUL, which PostgreSQL can't store."""
    if _NUL not in identity:
        return identity
    return identity.replace(_NUL, _REPLACED) + "~" + blake2b(identity.encode(), digest_size=16).hexdigest()


def _timely(row: Row, record: Message) -> Row:
    if row.at - written_at(record) > MAX_AHEAD:
        raise ValueError("its time is more than an hour after its record was written")
    return row


def _text(value: str | UnsetType | None) -> str | None:
    if value is None or isinstance(value, UnsetType):
        return None
    return value.replace(_NUL, _REPLACED)


def _int(value: int) -> int:
    if not -_INT <= value < _INT:
        raise ValueError("a number is out of range")
    return value


def _list(names: list[str] | UnsetType) -> str | None:
    return None if isinstance(names, UnsetType) else msgspec.json.encode([_text(name) for name in names]).decode()


def _json(name: str, value: Raw | UnsetType) -> Values:
    """The two columns of a JSON value, of which one has it."""
    column: Values = {name: None, f"{name}_text": None}
    if value is not UNSET:
        text = bytes(value)
        if _is_safe(text):
            column[name] = text.decode()
        else:
            column[f"{name}_text"] = text.decode(errors="replace").replace(_NUL, _REPLACED)
    return column


def _is_safe(text: bytes) -> bool:
    """Whether both databases can read this value back, and parts of it."""
    return canonical_json(text) is not None and _ESCAPED_NUL.search(text) is None and not is_deeper(text, MAX_DEPTH)


def _source(record: Message) -> str | None:
    """The `ce_source` of a label's record."""
    for name, value in headers_of(record):
        if name == "ce_source":
            return (value or b"")[:_MAX_SOURCE_BYTES].decode(errors="replace") or None
    return None
