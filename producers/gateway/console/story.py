"""The whole story of a request: what was asked and answered, when, by which version, and what became of it. Pure."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from msgspec import UNSET, Raw, UnsetType

from machine_learning_engineering.events.schemas import PredictionLogged
from machine_learning_engineering.observability.trace import trace_ids
from producers.gateway.console.memory import Label, Letter, Logged

MAX_PREVIEW = 160
"""Characters of a prediction in a list."""


def of_log(event: PredictionLogged) -> dict[str, Any]:
    """A prediction with all that its log says. Durations in seconds."""
    trace = trace_ids(event.traceparent)
    scoring_at = _later(event.accepted_at, event.queue_seconds)
    return {
        "request_id": event.request_id,
        "status": event.outcome,
        "model": event.model,
        "model_version": _value(event.model_version),
        "features": event.features,
        "redacted": _value(event.redacted) or [],
        "prediction": _value(event.prediction),
        "error": _value(event.error),
        "times": {
            "requested": event.requested_at,
            "accepted": event.accepted_at,
            "scoring": scoring_at,
            "scored": None if scoring_at is None else _later(scoring_at, event.score_seconds),
            "completed": event.completed_at,
        },
        "queue_seconds": event.queue_seconds,
        "score_seconds": event.score_seconds,
        "total_seconds": event.total_seconds,
        "batch_size": event.batch_size,
        "partition": event.partition,
        "offset": event.offset,
        "trace_id": None if trace is None else trace[0],
    }


def running(request_id: str, model: str) -> dict[str, Any]:
    """A request that has no outcome yet."""
    return {"request_id": request_id, "status": "running", "model": model}


def scored(request_id: str, model: str) -> dict[str, Any]:
    """A request whose result is there, and its log not yet."""
    return {"request_id": request_id, "status": "scored", "model": model}


def batch(request_id: str, model: str, rows: Sequence[str]) -> dict[str, Any]:
    """A request of many rows, each of which has a story of its own."""
    return {"request_id": request_id, "status": "batch", "model": model, "rows": rows}


def rejected(request_id: str, letters: Sequence[Letter]) -> dict[str, Any]:
    """A record that is no request: its dead letters tell why."""
    return {"request_id": request_id, "status": "dead_letter", "model": letters[0].origin.model}


def label(value: Raw, observed_at: datetime | None, reported_at: datetime | None) -> dict[str, Any]:
    """The label of a request."""
    return {"value": value, "observed_at": observed_at, "reported_at": reported_at}


def label_from_stream(found: Label) -> dict[str, Any]:
    """The label as it was reported."""
    return label(found.event.label, found.event.observed_at, moment(found.reported_at))


def summary(one: Logged) -> dict[str, Any]:
    """A prediction as a row of a list: no features, and the beginning of the prediction."""
    event = one.event
    return {
        "request_id": event.request_id,
        "at": event.completed_at,
        "model": event.model,
        "model_version": _value(event.model_version),
        "outcome": event.outcome,
        "error": None if event.error is UNSET else event.error.type,
        "prediction": None if event.prediction is UNSET else _preview(event.prediction),
        "total_seconds": event.total_seconds,
    }


def letter(one: Letter) -> dict[str, Any]:
    """A dead letter as a row of a list."""
    return {
        "address": one.address,
        "at": moment(one.at),
        "reason": one.origin.reason,
        "message": one.origin.message,
        "stage": one.origin.stage,
        "topic": one.origin.topic,
        "partition": one.origin.partition,
        "offset": one.origin.offset,
        "model": one.origin.model,
        "request_id": one.origin.request_id,
        "truncated": one.origin.truncated is not None,
        "bytes": one.size,
    }


def moment(seconds: float) -> datetime | None:
    """A time of the broker; None if a clock that is not ours makes it none."""
    try:
        return datetime.fromtimestamp(seconds, UTC)
    except (OverflowError, OSError, ValueError):
        return None


def _later(start: datetime, seconds: float) -> datetime | None:
    try:
        return start + timedelta(seconds=seconds)
    except OverflowError:
        return None


def _preview(value: Raw) -> str:
    text = bytes(memoryview(value)[: 4 * MAX_PREVIEW]).decode(errors="replace")
    return text if len(text) <= MAX_PREVIEW else text[:MAX_PREVIEW] + "…"


def _value(value: Any | UnsetType) -> Any:
    return None if value is UNSET else value
