"""Records to check a prediction log with, and their comparison."""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

import msgspec
from msgspec import UNSET, Raw

from machine_learning_engineering.prediction_log.store import PredictionRecord

START = datetime(2026, 1, 1, 12, tzinfo=UTC)


def example(request_id: str, model: str, *, at: datetime = START, **changes: Any) -> PredictionRecord:
    """A completed prediction, with `changes` to its fields."""
    given: dict[str, Any] = {
        "request_id": request_id,
        "model": model,
        "model_version": "v1",
        "outcome": "completed",
        "features": Raw(b'{"number":1.0}'),
        "created_at": at,
        "score_seconds": 0.25,
        "batch_size": 1,
        "prediction": Raw(b'{"double":2.0}'),
    }
    return PredictionRecord(**(given | changes))


def failed(request_id: str, model: str, **changes: Any) -> PredictionRecord:
    """A failed prediction; `changes` must hold `error`."""
    return example(request_id, model, outcome="failed", prediction=UNSET, **changes)


def fresh() -> str:
    """A unique name, for a model and as prefix of request ids."""
    return f"check-{uuid.uuid4().hex[:12]}"


def ids(records: Iterable[PredictionRecord]) -> list[str]:
    """The request ids, in order."""
    return [record.request_id for record in records]


def plain(records: Iterable[PredictionRecord]) -> list[Any]:
    """Records as JSON values: a log may format their JSON differently."""
    return [msgspec.json.decode(msgspec.json.encode(record)) for record in records]


def differs(what: str, found: Any, expected: Any) -> str | None:
    """Describe the difference between two values; None if they are equal."""
    return None if found == expected else f"{what}: {found!r:.2000} instead of {expected!r:.2000}"
